// The attack as a task: what it is given is the argument, and there is nothing else it could reach.
import { activations } from "./activations.js";
import { randomWeights } from "./features.js";
import { search } from "./solver.js";

/** The steps of the search for the n pictures of d pixels behind θ; see `search`. */
export function attack({ theta, weightsSeed, n, d, activation, seed, budget }) {
  const V = randomWeights(weightsSeed, theta.length, d);
  return search(theta, V, { n, phi: activations[activation], seed, budget });
}
