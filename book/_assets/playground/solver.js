// The attack: from θ and the feature map to the pictures. It is handed θ, V, φ and n, and sees no picture.
//
// 1. Start from the spectral directions of θ.
// 2. Descend with two columns an atom (the parity lift).
// 3. Where that stalls, descend through activations whose kink is rounded, less and less; then respawn: join
//    directions of the residual, descend, drop the atoms that cost least, descend; then restart at random.
// 4. Read the signs off the coefficients, and descend once more with one column an atom.
// 5. Nudge what was found and let go: does the search come back, or do other pictures fit θ as well?
import { addScaled, choleskySolve, dot } from "./linalg.js";
import { standardErrors } from "./precision.js";
import { Problem, SpanError } from "./projection.js";
import { generator } from "./random.js";
import { directions, withoutLinearPart } from "./spectral.js";
import { descend, toSphere } from "./varpro.js";

export const TOLERANCE = 1e-20; // losses that only a solution reaches, in double precision
const FRUITLESS = 2; // respawns without progress before a restart
const ROUNDINGS = Array.from({ length: 9 }, (_, k) => 0.3 / 2 ** k); // widths of the kink on the way to none
const NUDGE = 0.05; // relative to a picture's norm
const SAME = 1e-6; // relative distance below which two pictures are one

/** The loss that counts as a solution for p numbers, each off by about `noise`, of squared length `scale`. */
export function toleranceOf(p, unknowns, noise, scale) {
  // At the truth ‖r‖²/noise² is χ² with the spare equations as its degrees of freedom: four deviations above.
  const spare = Math.max(p - unknowns, 0);
  return Math.max(TOLERANCE, (noise ** 2 * (spare + 4 * Math.sqrt(2 * spare))) / scale);
}

/** Runs `search` to its end. onProgress gets {loss, X, stage, start} after every step; shouldStop() true ends it
 *  early. */
export function reconstruct(theta, V, { onProgress, ...options }) {
  const steps = search(theta, V, options);
  for (;;) {
    const { value, done } = steps.next();
    if (done) return value;
    if (value) onProgress?.(value);
  }
}

/** The same as a generator, for a thread that has other things to do: it yields {loss, X, stage, start} after every
 *  step, and null between two products. `noise` is the standard deviation of what was done to a number of θ; after
 *  `starts` starts it gives up. Returns
 *  {X, loss, converged, determined, signIdentifiable, unique, other, …}. */
export function* search(theta, V, options) {
  const { n, phi, seed = 0, budget = 20, noise = 0, starts = Infinity, shouldStop = () => false } = options;
  const begin = performance.now();
  const seconds = () => (performance.now() - begin) / 1000;
  const attack = new Search(new Problem(theta, V, phi), n, seed, noise, starts, () => seconds() > budget || shouldStop());
  const { problem, determined, tolerance } = attack;
  let point = yield* attack.atoms();
  let signed = yield* attack.signed(point);
  if (point.lifted && point.loss <= tolerance && signed.loss > tolerance) {
    attack.lifted = false; // two columns an atom had room to fit θ otherwise: go on with one
    signed = point = yield* attack.atoms(signed.U);
  }
  const converged = signed.loss <= tolerance;
  const found = seconds();
  const other = converged ? yield* attack.other(signed) : null;
  const mixed = phi.parity === "mixed";
  return {
    X: signed.U,
    alpha: signed.alpha,
    loss: signed.loss,
    converged,
    determined,
    equations: problem.p,
    unknowns: attack.unknowns,
    signIdentifiable: mixed ? (converged && determined ? true : null) : false,
    other: other && { X: other.U, loss: other.loss },
    unique: other && determined ? distance(other.U, signed.U, problem.d) < attack.same : null,
    standardErrors: converged && determined ? standardErrors(signed) : null,
    seconds: found,
  };
}

/** The largest distance of two rows, over √d. */
function distance(A, B, d) {
  let most = 0;
  for (let a = 0; a < A.length; a += d) {
    let sum = 0;
    for (let k = a; k < a + d; k++) sum += (A[k] - B[k]) ** 2;
    most = Math.max(most, Math.sqrt(sum / d));
  }
  return most;
}

class Search {
  constructor(problem, n, seed, noise, most, expired) {
    const { p, d, phi, scale } = problem;
    Object.assign(this, { problem, n, expired, most, starts: 0, random: generator("attack", seed) });
    this.unknowns = n * d; // d − 1 coordinates on the sphere and one coefficient for each picture
    this.tolerance = toleranceOf(p, this.unknowns, noise, scale);
    this.same = Math.max(SAME, 0.3 * noise * Math.sqrt(p / scale)); // minima of noisy losses are flat
    this.determined = p >= this.unknowns;
    this.lifted = phi.parity === "mixed" && p > 2 * n && p >= this.unknowns + n;
  }

  randomAtoms(count) {
    return toSphere(this.random.normals(count * this.problem.d), this.problem.d);
  }

  directions(residual, count) {
    const found = directions(this.problem, residual, count, this.random);
    const missing = count - found.length / this.problem.d;
    return missing > 0 ? join(found, this.randomAtoms(missing)) : found;
  }

  /** Descend, yielding progress; returns the last point, also where time ran out before the end. */
  *descend(U, lifted, stage, options, problem = this.problem) {
    const steps = descend(problem, U, lifted, options);
    let last = null;
    for (;;) {
      const { value, done } = steps.next();
      if (value) last = value;
      if (done || (this.expired() && last)) return last;
      // Atoms beyond n, and losses of another activation, are scaffolding: they are not shown.
      const shown = value && value.n === this.n && problem === this.problem;
      yield shown ? { loss: value.loss, X: signedAtoms(value), stage, start: this.starts } : null;
    }
  }

  /** Descend with the kink of φ rounded, less and less, so that atoms do not catch on single neurons' kinks.
   *  */
  *softly(U, lifted, stage) {
    const { theta, V, phi } = this.problem;
    for (const width of phi.softened ? ROUNDINGS : []) {
      const softened = new Problem(theta, V, phi.softened(width));
      const options = { target: 1e-7, steps: 20, window: 5, factor: 0.8 };
      U = (yield* this.descend(U, lifted, stage, options, softened)).U;
      if (this.expired()) break;
    }
    return yield* this.descend(U, lifted, stage);
  }

  firstAtoms() {
    const { problem, n, determined } = this;
    if (!determined || problem.p <= problem.d + 1) return this.randomAtoms(n);
    return this.directions(withoutLinearPart(problem, problem.theta), n);
  }

  /** The best atoms that the time allows. */
  *atoms(U = this.firstAtoms(), stage = "search") {
    let best = null;
    const enough = (point) => {
      if (!best || point.loss < best.loss) best = point;
      return best.loss <= this.tolerance || this.expired();
    };
    for (;;) {
      this.starts += 1;
      let point = yield* this.descend(U, this.lifted, stage);
      if (enough(point)) return best;
      if (this.problem.phi.softened) {
        point = yield* this.softly(U, this.lifted, stage);
        if (enough(point)) return best;
      }
      if (this.determined && enough(yield* this.respawns(point, stage))) return best;
      if (this.starts >= this.most) return best;
      U = this.randomAtoms(this.n);
    }
  }

  *respawns(point, stage) {
    let fruitless = 0;
    for (let round = 0; fruitless < FRUITLESS && point.loss > this.tolerance && !this.expired(); round++) {
      const trial = yield* this.respawn(point, 1 + (round % 3), stage);
      fruitless = trial && trial.loss < 0.9 * point.loss ? 0 : fruitless + 1;
      if (trial && trial.loss < point.loss) point = trial;
    }
    return point;
  }

  /** Join `extra` directions of the residual, descend, drop as many atoms that cost least, descend. */
  *respawn(point, extra, stage) {
    try {
      const wider = join(point.U, this.directions(point.residual, extra));
      const wide = yield* this.descend(wider, this.lifted, stage, { target: 1e-6, window: 6, factor: 0.7 });
      const costs = dropCosts(wide);
      const order = [...costs.keys()].sort((a, b) => costs[b] - costs[a]).slice(0, this.n);
      const { d } = this.problem;
      const kept = order.sort((a, b) => a - b).map((i) => wide.U.subarray(i * d, (i + 1) * d));
      return yield* this.descend(join(...kept), this.lifted, stage);
    } catch (error) {
      if (error instanceof SpanError) return null;
      throw error;
    }
  }

  /** One column an atom, of the sign that carries it, polished. */
  *signed(point) {
    if (!point.lifted) return point;
    return yield* this.descend(signedAtoms(point), false, "signs", { steps: 50, window: 4, factor: 0.5 });
  }

  /** Another answer: what a descent finds from near the solution or, where there are fewer equations than
   *  unknowns, from anywhere. Null where the time does not allow one. */
  *other({ U }) {
    if (!this.determined) {
      const found = yield* this.atoms(this.randomAtoms(this.n), "another set");
      return found.loss <= this.tolerance ? found : null;
    }
    const nudge = this.random.normals(U.length).map((z) => NUDGE * z);
    const near = toSphere(addScaled(nudge, 1, U), this.problem.d);
    const found = yield* this.descend(near, false, "nudged");
    return found.loss <= this.tolerance ? found : null;
  }
}

/** Atoms, each in the sign of its heavier column; at a solution the other column carries nothing. */
function signedAtoms(point) {
  const { U, n, alpha, lifted, problem: { d } } = point;
  if (!lifted) return U;
  const weight = (i) => alpha[i] ** 2 * dot(point.row(i), point.row(i));
  const sign = Array.from({ length: n }, (_, i) => (weight(i) >= weight(n + i) ? 1 : -1));
  return U.map((u, k) => sign[Math.floor(k / d)] * u);
}

/** How much ‖r‖² grows when an atom's columns are dropped: α_iᵀ [(G⁻¹)_ii]⁻¹ α_i. */
function dropCosts({ n, m, alpha, factor, lifted }) {
  const identity = Float64Array.from({ length: m * m }, (_, k) => (k % (m + 1) ? 0 : 1));
  const inverse = choleskySolve(factor, identity, m, m);
  return Array.from({ length: n }, (_, i) => {
    const x = alpha[i], a = inverse[i * m + i];
    if (!lifted) return (x * x) / a;
    const k = n + i, y = alpha[k], b = inverse[i * m + k], c = inverse[k * m + k];
    return (c * x * x - 2 * b * x * y + a * y * y) / (a * c - b * b);
  });
}

function join(...parts) {
  const out = new Float64Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
