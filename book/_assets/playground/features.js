// Random features Φ(X) = φ(X Vᵀ) and the regression on them: the model that the playground trains.
import { addScaled, cholesky, choleskySolve, dot, gram, timesTransposed } from "./linalg.js";
import { generator } from "./random.js";

/** V (p × d) with independent N(0, 1/d) entries. */
export function randomWeights(seed, p, d) {
  return generator("features", seed).normals(p * d).map((v) => v / Math.sqrt(d));
}

/** Φ(X), n × p, for X (n × d). */
export function featureMap(X, V, n, d, phi) {
  return timesTransposed(X, V, n, V.length / d, d).map(phi.value);
}

/** θ = Φᵀ(ΦΦᵀ)⁻¹ y, the limit of gradient descent from zero; null where the features of X are dependent. */
export function fit(X, y, V, n, d, phi) {
  const p = V.length / d;
  const Phi = featureMap(X, V, n, d, phi);
  const G = gram(Phi, n, p);
  const factor = cholesky(G, n);
  // A pivot is a column's squared distance from those before it: within rounding, there is no distance.
  if (!factor || G.some((g, i) => i % (n + 1) === 0 && factor[i] ** 2 < 1e-13 * g)) return null;
  const theta = new Float64Array(p);
  for (let round = 0; round < 2; round++) { // the second takes back what the Gram matrix has squared
    const rest = y.map((label, i) => label - dot(Phi.subarray(i * p, (i + 1) * p), theta));
    choleskySolve(factor, rest, n).forEach((a, i) => addScaled(theta, a, Phi.subarray(i * p, (i + 1) * p)));
  }
  return theta;
}

/** Φ(X)ᵀα, p numbers: what pictures and coefficients say that θ is. */
export function combine(X, alpha, V, d, phi) {
  const n = alpha.length, p = V.length / d, theta = new Float64Array(p);
  const Phi = featureMap(X, V, n, d, phi);
  for (let i = 0; i < n; i++) addScaled(theta, alpha[i], Phi.subarray(i * p, (i + 1) * p));
  return theta;
}
