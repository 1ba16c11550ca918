// The counts of the law; reconlaw.counting computes the same, and a test compares the two.

const product = (shape) => shape.reduce((a, b) => a * b, 1);

export const parameterCount = (layers) => layers.reduce((sum, { shape, times }) => sum + times * product(shape), 0);

/** p: what a recipe trains, the new head's biases aside. */
export function trainedParameters({ layers, width }, recipe, outputs, rank) {
  const head = outputs * width;
  if (recipe === "head") return head;
  if (recipe === "full") return head + parameterCount(layers.filter((layer) => !layer.head));
  const both = recipe === "lora"; // "lora-b": the factor B alone, which moves first
  return layers.filter((layer) => layer.lora).reduce((sum, { shape, times }) => {
    return sum + times * rank * (shape[0] + (both ? product(shape.slice(1)) : 0));
  }, head);
}

export const lawRatio = (p, d, n) => p / (d * n);

export const rankOf = (outputs, n, softmax) => Math.min(n, softmax && outputs > 1 ? outputs - 1 : outputs);

/** Equations for each unknown; a head's change has rank at most min(n, K), or min(n, K − 1) after a softmax. */
export function equationRatio(p, width, outputs, d, n, softmax) {
  const rank = rankOf(outputs, n, softmax);
  return (p - (outputs - rank) * width) / (n * (d - 1 + rank));
}

/** The largest n with an equation for each unknown, by `equationRatio`; 0 where there is none. */
export function mostSamples(p, width, outputs, d, softmax) {
  let low = 0, high = Math.max(1, Math.floor(p / Math.max(d - 1, 1))) + 1; // the ratio falls as n grows
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (equationRatio(p, width, outputs, d, middle, softmax) >= 1) low = middle;
    else high = middle;
  }
  return low;
}
