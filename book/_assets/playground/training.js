// The side that sees the pictures: it makes θ from them, and hands on nothing else.
import { activations } from "./activations.js";
import { fit, randomWeights } from "./features.js";
import { toSamples } from "./pictures.js";
import { generator } from "./random.js";

/** Train on pictures with random labels ±1. Returns the samples, for the comparison at the end, and the task:
 *  all that the attack is given. Throws an Error that says what to change where the pictures cannot be told
 *  apart. */
export function train(pictures, { ratio, activation, seed }) {
  const n = pictures.length, d = pictures[0].length;
  const samples = toSamples(pictures);
  const p = Math.round(ratio * d * n);
  const coin = generator("labels", seed);
  const labels = Float64Array.from({ length: n }, () => (coin.uniform() < 0.5 ? -1 : 1));
  const theta = fit(samples, labels, randomWeights(seed, p, d), n, d, activations[activation]);
  if (!theta) throw new Error("The pictures are too alike for their features to differ. Change one of them.");
  return { samples, task: { theta, weightsSeed: seed, n, d, activation } };
}
