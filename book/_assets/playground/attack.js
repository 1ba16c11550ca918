// The attack as a task: what it is given is the argument, and there is nothing else it could reach.
import { activations } from "./activations.js";
import { randomWeights } from "./features.js";
import { search } from "./solver.js";

const MOST = 6; // pictures, where nobody says how many there were

/** The steps of the search for the pictures of d pixels behind θ; see `search`.
 *
 *  What is withheld is tried: n = 1, 2, … where n is null, and every activation where that is null. `kept` holds the
 *  places of θ's numbers among the p that there were, and `noise` the standard deviation of what was done to each. */
export function* attack({ theta, weightsSeed, n, d, activation, seed, budget, p = theta.length, kept, noise = 0 }) {
  const all = randomWeights(weightsSeed, p, d);
  const V = kept ? rows(all, kept, d) : all;
  const counts = n ? [n] : Array.from({ length: MOST }, (_, i) => i + 1);
  const names = activation ? [activation] : Object.keys(activations);
  const trials = counts.flatMap((count) => names.map((name) => ({ n: count, name })));
  // Every guess has one start, and all that were wrong have what time is left.
  const plan = trials.length > 1 ? [1, Infinity] : [Infinity];
  let best = null, spent = 0;
  for (const starts of plan) {
    for (const [k, { n: count, name }] of trials.entries()) {
      const share = starts === 1 ? budget - spent : (budget - spent) / (trials.length - k);
      if (best && share <= 0) break;
      const options = { n: count, phi: activations[name], seed, budget: share, noise, starts };
      const steps = search(theta, V, options);
      for (;;) {
        const { value, done } = steps.next();
        if (done) {
          const result = { ...value, n: count, activation: name, tried: k + 1 };
          spent += result.seconds;
          if (result.converged) return result;
          if (!best || result.loss < best.loss) best = result;
          break;
        }
        yield value && { ...value, n: count, activation: name };
      }
    }
  }
  return { ...best, tried: trials.length };
}

function rows(V, kept, d) {
  const out = new Float64Array(kept.length * d);
  kept.forEach((j, k) => out.set(V.subarray(j * d, (j + 1) * d), k * d));
  return out;
}
