// θ projected on the features of candidate pictures ("atoms"), and products with the Jacobian of what is
// left.
import { addScaled, cholesky, choleskySolve, dot, gram, rowDot, timesTransposed } from "./linalg.js";

/** The columns are dependent: two atoms coincide, or there are more columns than features. */
export class SpanError extends Error {}

/** What the attacker knows: θ, the weights V (p × d) and φ. */
export class Problem {
  constructor(theta, V, phi) {
    this.theta = theta;
    this.V = V;
    this.phi = phi;
    this.p = theta.length;
    this.d = V.length / theta.length;
    this.scale = dot(theta, theta);
  }

  at(U, lifted) {
    return new Projection(this, U, lifted);
  }
}

/** L(U) = ‖r‖²/‖θ‖², r the part of θ off the span of the rows of B.
 *
 *  B = Φ(U), n rows; lifted, B = [Φ(U); Φ(−U)], 2n rows: the parity lift, whose span does not know the signs
 *  of the atoms, so that no minimum is made by a wrong one. ‖r‖² is taken from r itself: ‖θ‖² − (Bθ)ᵀα would
 *  subtract near-equal numbers. */
class Projection {
  constructor(problem, U, lifted) {
    const { theta, V, phi, p, d } = problem;
    const n = U.length / d, m = lifted ? 2 * n : n;
    Object.assign(this, { problem, U, lifted, n, m });
    this.Z = timesTransposed(U, V, n, p, d);
    this.B = new Float64Array(m * p);
    for (let k = 0; k < n * p; k++) {
      this.B[k] = phi.value(this.Z[k]);
      if (lifted) this.B[n * p + k] = phi.value(-this.Z[k]);
    }
    this.factor = factorGram(gram(this.B, m, p), m);
    this.residual = Float64Array.from(theta);
    this.alpha = this.takeOut(this.residual);
    // The Gram matrix squares the condition number; a second round takes that back.
    addScaled(this.alpha, 1, this.takeOut(this.residual));
    this.loss = dot(this.residual, this.residual) / problem.scale;
  }

  row(i) {
    return this.B.subarray(i * this.problem.p, (i + 1) * this.problem.p);
  }

  /** t ← P⊥ t in place; returns the coefficients that went. */
  takeOut(t) {
    const products = Float64Array.from({ length: this.m }, (_, i) => dot(this.row(i), t));
    const alpha = choleskySolve(this.factor, products, this.m);
    alpha.forEach((a, i) => addScaled(t, -a, this.row(i)));
    return alpha;
  }

  /** S_i = α⁺_i φ'(Vu_i) − α⁻_i φ'(−Vu_i), n × p: the slope of the fit along atom i, with α held. */
  get S() {
    if (!this.slopes) {
      const { p, phi } = this.problem;
      this.slopes = this.Z.map((z, k) => {
        const i = Math.floor(k / p), upper = this.alpha[i] * phi.slope(z);
        return this.lifted ? upper - this.alpha[this.n + i] * phi.slope(-z) : upper;
      });
    }
    return this.slopes;
  }

  /** J δ = Σ_i S_i ∘ (V δ_i), p numbers, for δ (n × d). */
  jvp(delta) {
    const { V, p, d } = this.problem, { n, S } = this;
    const out = new Float64Array(p);
    for (let j = 0; j < p; j++) {
      let sum = 0;
      for (let i = 0; i < n; i++) sum += S[i * p + j] * rowDot(delta, i * d, V, j * d, d);
      out[j] = sum;
    }
    return out;
  }

  /** Jᵀ t, n × d, for t of p numbers. */
  vjp(t) {
    const { V, p, d } = this.problem, { n, S } = this;
    const out = new Float64Array(n * d);
    for (let j = 0; j < p; j++) {
      for (let i = 0; i < n; i++) {
        const c = S[i * p + j] * t[j], a = i * d, b = j * d;
        if (c !== 0) for (let k = 0; k < d; k++) out[a + k] += c * V[b + k];
      }
    }
    return out;
  }

  /** ∂L/∂U = −2 Jᵀr/‖θ‖², n × d. */
  gradient() {
    return this.vjp(this.residual).map((g) => (-2 / this.problem.scale) * g);
  }
}

/** Cholesky factor of a Gram matrix; a jitter grows where the columns are nearly dependent. */
function factorGram(G, m) {
  let mean = 0;
  for (let i = 0; i < m; i++) mean += G[i * m + i] / m;
  for (const jitter of [0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6]) {
    const factor = cholesky(G.map((g, k) => (k % (m + 1) ? g : g + jitter * mean)), m);
    if (factor) return factor;
  }
  throw new SpanError("the features of the candidates are linearly dependent");
}
