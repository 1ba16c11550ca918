// The counts of the law; reconlaw.counting computes the same, and a test compares the two.

const product = (shape) => shape.reduce((a, b) => a * b, 1);

export const parameterCount = (layers) => layers.reduce((sum, { shape, times }) => sum + times * product(shape), 0);

/** p: what a recipe trains, the new head's biases aside. */
export function trainedParameters({ layers, width }, recipe, outputs, rank) {
  const head = outputs * width;
  if (recipe === "head") return head;
  if (recipe === "full") return head + parameterCount(layers.filter((layer) => !layer.head));
  return layers.filter((layer) => layer.lora).reduce((sum, { shape, times }) => {
    return sum + times * rank * (shape[0] + product(shape.slice(1)));
  }, head);
}

export const lawRatio = (p, d, n) => p / (d * n);

/** Equations for each unknown; a head's change has rank at most min(n, K), or min(n, K − 1) after a softmax. */
export function equationRatio(p, width, outputs, d, n, softmax) {
  const rank = Math.min(n, softmax && outputs > 1 ? outputs - 1 : outputs);
  return (p - (outputs - rank) * width) / (n * (d - 1 + rank));
}
