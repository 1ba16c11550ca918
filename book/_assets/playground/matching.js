// Scoring: which picture found is which original, and how far off it is. It looks at the truth, so nothing
// that recovers imports it; it is called when the attack is over.

const SIGN_PREFERENCE = 0.01; // as in reconlaw.match: the price of choosing the farther sign

/** An estimate for each original, no one twice; where there are fewer, the rest are matched with nothing (zero).
 *
 *  The pairing is the one that minimises the sum of min(‖x̂ − x‖, ‖x̂ + x‖) + 0.01 ‖x̂ − x‖,
 *  among all (there are at most six of each): for each original {index, error, errorUpToSign, sign}, errors relative
 *  to √d. */
export function match(found, originals, d) {
  const n = originals.length / d, count = Math.max(n, found.length / d);
  const estimates = new Float64Array(count * d);
  estimates.set(found);
  const pairs = Array.from({ length: n }, (_, i) =>
    Array.from({ length: count }, (_, index) => {
      const plus = gap(estimates, index * d, originals, i * d, d, 1);
      const minus = gap(estimates, index * d, originals, i * d, d, -1);
      const errorUpToSign = Math.min(plus, minus);
      const cost = errorUpToSign + SIGN_PREFERENCE * plus;
      return { index, error: plus, errorUpToSign, sign: plus <= minus ? 1 : -1, cost };
    }),
  );
  let best = { cost: Infinity };
  const extend = (chosen, cost) => {
    if (cost >= best.cost) return;
    if (chosen.length === n) best = { chosen, cost };
    else {
      for (const pair of pairs[chosen.length]) {
        if (!chosen.some(({ index }) => index === pair.index)) extend([...chosen, pair], cost + pair.cost);
      }
    }
  };
  extend([], 0);
  return best.chosen;
}

function gap(A, a, B, b, d, sign) {
  let sum = 0;
  for (let k = 0; k < d; k++) sum += (A[a + k] - sign * B[b + k]) ** 2;
  return Math.sqrt(sum / d);
}
