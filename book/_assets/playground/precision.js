// How well θ determines each picture at the answer: standard errors of least squares, to first order.
import { cholesky, choleskySolve, dot, gram, rowDot } from "./linalg.js";

const MOST = 3e9; // products of numbers for the Gram matrix; beyond it a page would stand still

/** s √(tr [(𝒥ᵀ𝒥)⁻¹]_ii / d) for each picture, where 𝒥 (p × n(d + 1)) is the Jacobian of Φᵀα in the pictures (along
 *  the sphere) and the coefficients, and s² = ‖r‖²/(p − nd): relative to a picture's norm. Infinity where 𝒥 is
 *  singular; null where there are no equations to spare, or too much to compute. */
export function standardErrors(point) {
  const { U, n, alpha, residual, lifted, S, problem: { V, p, d } } = point;
  const m = n * (d + 1);
  if (lifted || p <= n * d || p * m * m > MOST) return null;
  const J = new Float64Array(m * p); // by columns of 𝒥
  for (let i = 0; i < n; i++) {
    const square = rowDot(U, i * d, U, i * d, d);
    for (let j = 0; j < p; j++) {
      const slope = S[i * p + j], along = rowDot(V, j * d, U, i * d, d) / square;
      for (let k = 0; k < d; k++) J[(i * d + k) * p + j] = slope * (V[j * d + k] - along * U[i * d + k]);
    }
    // In units of the fit, so that coefficients and pixels are of one size.
    J.set(point.row(i).map((value) => value * alpha[i]), (n * d + i) * p);
  }
  const G = gram(J, m, p);
  let size = 0;
  for (let k = 0; k < n * d; k++) size += G[k * m + k] / (n * d);
  for (let i = 0; i < n; i++) { // along u_i nothing changes, for the sphere holds its norm: any number will do there
    for (let a = 0; a < d; a++) for (let b = 0; b < d; b++) {
      G[(i * d + a) * m + i * d + b] += (size * U[i * d + a] * U[i * d + b]) / d;
    }
  }
  const factor = cholesky(G, m);
  if (!factor) return new Float64Array(n).fill(Infinity);
  const s2 = dot(residual, residual) / (p - n * d);
  const unit = new Float64Array(m);
  return Float64Array.from({ length: n }, (_, i) => {
    let trace = -1 / size;
    for (let k = i * d; k < (i + 1) * d; k++) {
      unit.fill(0);
      unit[k] = 1;
      trace += choleskySolve(factor, unit, m)[k];
    }
    return Math.sqrt((s2 * trace) / d);
  });
}
