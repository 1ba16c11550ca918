// What the counts say, and what they do not, in words.

export const whole = (number) => Math.round(number).toLocaleString("en");

/** 0.0136, 3.3, 12,000, or 2·10⁻⁹: two digits of a positive number. */
export function short(number) {
  if (number >= 1e-3 && number < 1e6) {
    return number >= 10 ? whole(Number(number.toPrecision(2))) : String(Number(number.toPrecision(2)));
  }
  const [mantissa, exponent] = number.toExponential(1).split("e");
  const raised = [...exponent.replace("+", "")].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");
  return `${mantissa.replace(".0", "")}·10${raised}`;
}

const NEAR = 5; // equations for each unknown up to which this book's searches sometimes failed though the count allowed success

/** {kind, text} for one recipe's figures; the kinds are "below", "rank", "near", "above". */
export function verdict({ recipe, p, ratio, equations, labels }) {
  if (p < labels) {
    return { kind: "below", text: "Fewer parameters than labels: in general not even the labels can all be fitted." };
  }
  if (ratio < 1) {
    return {
      kind: "below",
      text:
        "Fewer numbers than unknown coordinates: in the random-features setting the parameters alone cannot " +
        "single out all samples. Single samples, a subspace, or what a prior supplies may still leak.",
    };
  }
  if (equations < 1) {
    return {
      kind: "rank",
      text:
        `The plain count flatters, p/dn = ${short(ratio)}: the head's many rows all lie in one small space, and ` +
        "for each unknown there is less than one independent equation. Not all samples are determined.",
    };
  }
  if (equations < NEAR) {
    return {
      kind: "near",
      text:
        "Enough numbers by count. This close to 1 this book's searches recovered everything in some " +
        "settings and failed in others, real images more often than spheres. Do not count on failure.",
    };
  }
  if (recipe === "lora-b") {
    return {
      kind: "above",
      text:
        "Far above the law at first order. B starts at zero, so until it has moved the other factor is not trained, and " +
        "the change of B alone is what counts. The next row counts both, for long training.",
    };
  }
  return {
    kind: "above",
    text:
      recipe === "head"
        ? "Far above the law. In the setting that the caveats describe, expect every sample to come back."
        : "Far above the law. The theorems are about a linear head on random features and nothing more, so this is a " +
          "count and not a forecast. But nothing in it protects the samples.",
  };
}

const HEAD = [
  "Rests on a head trained alone, by gradient steps from a start θ₀ that the attacker knows exactly, to full " +
    "precision. Unknown or rounded starts, weight decay, Adam and noise each change the answer; none is a proof of safety.",
  "The theorems are about random features with samples on a sphere, p far above dn by constants that nobody has " +
    "made small. A trained body of low rank tells less than its count says.",
];
const MORE =
  "Where more than a head is trained, the features move. The count then speaks of a linearised model; how far real " +
  "training is from it was measured here for small networks only. And a dense first layer, once trained, gives away " +
  "the span of the samples: n unknowns are left for each in place of d, and a smaller p will do.";
const TEXT =
  "The d of a text is that of its embedded tokens. Tokens come from a finite list, so a text has far fewer unknown " +
  "bits than coordinates, and a text can be named although p < dn. For texts the law is no lower limit.";
const PICTURES =
  "Real images hold less than d free numbers. Whoever has a good prior, or a list of candidates, needs fewer equations.";
const MANY =
  "Whatever the count says, this many samples at once have not been recovered in this book or in its paper: the searches here end at a hundred.";

/** The caveats for an input ("vector", "image", "text", "own") and a number of samples. */
export function caveats(input, n) {
  const kind = input === "text" ? [TEXT] : input === "vector" ? [] : [PICTURES];
  return [...HEAD, MORE, ...kind, ...(n > 100 ? [MANY] : [])];
}

/** The audit of a model that was trained so, ready to be copied; what only its owner knows stands in capitals. */
export function auditCommand(architecture, d, n) {
  const image = architecture?.input === "image", side = Math.sqrt(d / 3), square = Number.isInteger(side);
  const shape = d === architecture?.d ? architecture.shape : image && square ? [3, side, side] : [d];
  const inputs = image && shape.length === 3 ? " --inputs pixels:0.485/0.456/0.406,0.229/0.224/0.225" : "";
  return `python -m reconlaw audit before.pt after.pt --model MODULE:FACTORY --input-shape ${shape} --n ${n}${inputs}`;
}
