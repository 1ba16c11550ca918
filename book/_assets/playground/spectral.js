// Directions of the pictures read off θ by Hermite moments, with no starting point. By Stein's lemma
//   E M ∝ μ₂ Σ_i a_i x_i x_iᵀ,  M = (1/p) Σ_j θ_j (d v_j v_jᵀ − I),
// so M's eigenvectors of largest |eigenvalue| span the pictures' subspace once they stand out of the noise.
// Where φ is odd, μ₂ = 0 and the third moment takes its place.
import { addScaled, cholesky, choleskySolve, rowDot, symmetricEigen, weightedGram } from "./linalg.js";
import { toSphere } from "./varpro.js";

const ASCENTS = 15; // power iterations on the third moment

const unbiased = (r) => {
  const mean = r.reduce((sum, value) => sum + value, 0) / r.length;
  return r.map((value) => value - mean);
};

/** r without its least-squares fit by the columns of V and the constant: these add noise to the moments, no
 *  signal. */
export function withoutLinearPart({ V, p, d }, r) {
  const rest = unbiased(r);
  if (p <= d + 1) return rest;
  const factor = cholesky(weightedGram(V, new Float64Array(p).fill(1), p, d), d);
  if (!factor) return rest;
  const products = new Float64Array(d);
  for (let j = 0; j < p; j++) addScaled(products, rest[j], V.subarray(j * d, (j + 1) * d));
  const w = choleskySolve(factor, products, d);
  return unbiased(rest.map((value, j) => value - rowDot(w, 0, V, j * d, d)));
}

/** Up to k candidate atoms for a residual r, rows of norm √d. */
export function directions(problem, r, k, random) {
  return problem.phi.parity === "odd" ? thirdMoment(problem, r, k, random) : secondMoment(problem, r, k);
}

function secondMoment({ V, p, d }, r, k) {
  const mean = r.reduce((sum, value) => sum + value, 0) / p;
  const M = weightedGram(V, r.map((value) => (value * d) / p), p, d);
  for (let a = 0; a < d; a++) M[a * d + a] -= mean;
  const { values, vectors } = symmetricEigen(M, d);
  const order = [...values.keys()].sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
  return pick(vectors, order.slice(0, k), d);
}

/** u ← Σ_j r_j h₂(v_j·u) v_j from random starts climbs |T(u)| = |Σ_j r_j h₃(v_j·u)|; the highest that differ
 *  are kept. */
function thirdMoment({ V, p, d }, r, k, random) {
  const starts = 2 * k + 6;
  let U = toSphere(random.normals(starts * d), d);
  const height = new Float64Array(starts);
  for (let round = 0; round <= ASCENTS; round++) {
    const ascent = new Float64Array(starts * d);
    height.fill(0);
    for (let j = 0; j < p; j++) {
      const v = V.subarray(j * d, (j + 1) * d);
      for (let i = 0; i < starts; i++) {
        const z = rowDot(U, i * d, v, 0, d);
        height[i] += r[j] * z * (z * z - 3);
        if (round < ASCENTS) addScaled(ascent.subarray(i * d, (i + 1) * d), r[j] * (z * z - 1), v);
      }
    }
    if (round < ASCENTS) U = toSphere(ascent, d);
  }
  const order = [...height.keys()].sort((a, b) => Math.abs(height[b]) - Math.abs(height[a]));
  const kept = [];
  for (const i of order) {
    if (kept.length < k && kept.every((j) => Math.abs(rowDot(U, i * d, U, j * d, d)) < d / 2)) kept.push(i);
  }
  return pick(U, kept, d);
}

function pick(rows, indices, d) {
  const out = new Float64Array(indices.length * d);
  indices.forEach((i, k) => out.set(rows.subarray(i * d, (i + 1) * d), k * d));
  return toSphere(out, d);
}
