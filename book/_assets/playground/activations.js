// Activations with their derivative and parity. Where φ is odd, Φ(−x) = −Φ(x): no method can tell x from −x.
// Where φ has a kink, `softened(ε)` rounds it over a width ε.

const step = (z) => (z > 0 ? 1 : 0);
const sech2 = (z) => 1 - Math.tanh(z) ** 2;
const density = (z) => Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);

/** P(N(0,1) ≤ z) by the series of G. Marsaglia, "Evaluating the normal distribution" (2004): its terms do not
 *  cancel. */
function normalCdf(z) {
  if (Math.abs(z) > 8.5) return step(z);
  let sum = z, term = z;
  for (let k = 3; Math.abs(term) > 1e-17 * Math.abs(sum); k += 2) {
    term *= (z * z) / k;
    sum += term;
  }
  return 0.5 + sum * density(z);
}

const hyperbola = (z, e) => 0.5 * (z + Math.sqrt(z * z + e * e)); // ReLU with a rounded kink
const hyperbolaSlope = (z, e) => 0.5 + (0.5 * z) / Math.sqrt(z * z + e * e);

export const activations = {
  relu: {
    label: "ReLU",
    parity: "mixed",
    value: (z) => (z > 0 ? z : 0),
    slope: step,
    softened: (e) => ({ value: (z) => hyperbola(z, e), slope: (z) => hyperbolaSlope(z, e) }),
  },
  "relu+tanh": {
    label: "ReLU + tanh",
    parity: "mixed",
    value: (z) => (z > 0 ? z : 0) + Math.tanh(z),
    slope: (z) => step(z) + sech2(z),
    softened: (e) => ({
      value: (z) => hyperbola(z, e) + Math.tanh(z),
      slope: (z) => hyperbolaSlope(z, e) + sech2(z),
    }),
  },
  gelu: {
    label: "GELU",
    parity: "mixed",
    value: (z) => z * normalCdf(z),
    slope: (z) => normalCdf(z) + z * density(z),
  },
  tanh: {
    label: "tanh",
    parity: "odd",
    value: Math.tanh,
    slope: sech2,
  },
};
