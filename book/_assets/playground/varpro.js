// Variable projection (Golub and Pereyra): Levenberg–Marquardt on L over atoms on the sphere of radius √d.
// A step solves
//   (JᵀP⊥J + μ D ⊗ I) δ = Jᵀr,  δ_i ⊥ u_i,
// by conjugate gradients that only multiply with J, preconditioned with (K + μD)⁻¹ ⊗ I, K = SSᵀ/d and
// D = diag K: JᵀJ ≈ K ⊗ I in mean over V, correlations between the pictures included.
//
// The descent is a generator: it yields between products, so that its caller may show, pause or stop it.
import { addScaled, cholesky, choleskySolve, dot, gram, rowDot } from "./linalg.js";
import { SpanError } from "./projection.js";

const LEAST_GAIN = 1e-4; // a step must lower L by this share of what the linear model promises
const FIRST_DAMPING = 1e-3;
const MOST_DAMPING = 1e12;

/** Rows of U put at norm √d. */
export function toSphere(U, d) {
  const out = Float64Array.from(U);
  for (let a = 0; a < U.length; a += d) {
    const c = Math.sqrt(d / Math.max(rowDot(U, a, U, a, d), 1e-300));
    for (let k = a; k < a + d; k++) out[k] *= c;
  }
  return out;
}

/** δ without its parts along the rows of U. */
function tangent(delta, U, d) {
  for (let a = 0; a < U.length; a += d) {
    const c = rowDot(delta, a, U, a, d) / rowDot(U, a, U, a, d);
    for (let k = a; k < a + d; k++) delta[k] -= c * U[k];
  }
  return delta;
}

/** x with A x ≈ b to a relative preconditioned residual, and A x. */
function* conjugateGradients(multiply, precondition, b, tolerance, limit) {
  const x = new Float64Array(b.length), r = Float64Array.from(b);
  let z = precondition(r);
  const q = Float64Array.from(z);
  let rz = dot(r, z);
  const first = rz;
  for (let round = 0; round < limit; round++) {
    yield null;
    const Aq = multiply(q);
    const curvature = dot(q, Aq);
    if (!(curvature > 0)) break;
    addScaled(x, rz / curvature, q);
    addScaled(r, -rz / curvature, Aq);
    z = precondition(r);
    const previous = rz;
    rz = dot(r, z);
    if (rz <= tolerance ** 2 * first) break;
    for (let k = 0; k < q.length; k++) q[k] = z[k] + (rz / previous) * q[k];
  }
  return { x, Ax: b.map((value, k) => value - r[k]) };
}

/** δ for a damping μ, and the fall of L that the linear model promises for it. */
function* dampedStep(point, gradient, K, mu, tolerance) {
  const { n, U, problem: { d, p, scale } } = point;
  const D = Float64Array.from({ length: n }, (_, i) => K[i * n + i]);
  const most = Math.max(...D);
  const damping = D.map((entry) => mu * Math.max(entry, 1e-12 * most));
  const factor = cholesky(K.map((k, at) => (at % (n + 1) ? k : k + damping[at / (n + 1)] + 1e-10 * most)), n);
  const multiply = (q) => {
    const t = point.jvp(q);
    point.takeOut(t);
    const out = tangent(point.vjp(t), U, d);
    for (let k = 0; k < out.length; k++) out[k] += damping[Math.floor(k / d)] * q[k];
    return out;
  };
  const precondition = (g) => tangent(choleskySolve(factor, g, n, d), U, d);
  const { x, Ax } = yield* conjugateGradients(multiply, precondition, gradient, tolerance, 100);
  let fall = 0; // ‖r‖² − ‖r − P⊥Jδ‖² = 2⟨δ, g⟩ − ⟨δ, (A − μD)δ⟩
  for (let k = 0; k < x.length; k++) {
    fall += x[k] * (2 * gradient[k] - Ax[k] + damping[Math.floor(k / d)] * x[k]);
  }
  return { delta: x, promised: fall / scale };
}

/** Descend from U; every accepted step lowers the loss and is yielded. Returns where it ended. It ends at
 *  `target`, after `steps`, or once `window` steps have not lowered L below `factor` of what it was. */
export function* descend(problem, U, lifted, { target = 1e-29, steps = 200, window = 8, factor = 0.9 } = {}) {
  let point = problem.at(U, lifted);
  const losses = [point.loss];
  let mu = FIRST_DAMPING, growth = 2;
  while (point.loss > target) {
    const last = losses.length - 1;
    if (last >= steps || (last >= window && losses[last] > factor * losses[last - window])) break;
    const gradient = tangent(point.vjp(point.residual), point.U, problem.d);
    const K = gram(point.S, point.n, problem.p).map((k) => k / problem.d);
    // Solve loosely far away, tightly where the loss falls fast.
    const rate = last ? losses[last] / losses[last - 1] : 1;
    const tolerance = Math.min(0.3, Math.max(1e-4, 0.5 * Math.sqrt(rate)));
    let trial, gain;
    for (;;) {
      const { delta, promised } = yield* dampedStep(point, gradient, K, mu, tolerance);
      trial = attempt(problem, toSphere(addScaled(delta, 1, point.U), problem.d), lifted);
      gain = trial && promised > 0 ? (point.loss - trial.loss) / promised : -1;
      if (gain > LEAST_GAIN) break;
      mu *= growth;
      growth *= 2;
      if (!(mu < MOST_DAMPING)) return point;
    }
    mu = Math.max(mu * Math.max(0.1, 1 - (2 * gain - 1) ** 3), 1e-12); // Nielsen's rule
    growth = 2;
    point = trial;
    losses.push(point.loss);
    yield point;
  }
  return point;
}

function attempt(problem, U, lifted) {
  try {
    return problem.at(U, lifted);
  } catch (error) {
    if (error instanceof SpanError) return null; // the step threw two atoms together
    throw error;
  }
}
