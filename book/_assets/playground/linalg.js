// Small dense linear algebra on Float64Array. Matrices are stored by rows; shapes are passed beside them.

export function dot(x, y) {
  let s = 0;
  for (let i = 0; i < x.length; i++) s += x[i] * y[i];
  return s;
}

/** y += c x, in place. */
export function addScaled(y, c, x) {
  for (let i = 0; i < y.length; i++) y[i] += c * x[i];
  return y;
}

/** A Bᵀ for A (n × d) and B (p × d): n × p. Reads B once, along its rows. */
export function timesTransposed(A, B, n, p, d) {
  const out = new Float64Array(n * p);
  for (let j = 0; j < p; j++) {
    const b = j * d;
    for (let i = 0; i < n; i++) out[i * p + j] = rowDot(A, i * d, B, b, d);
  }
  return out;
}

/** Σ_k A[a + k] B[b + k] over d entries; four sums side by side keep the processor busy. */
export function rowDot(A, a, B, b, d) {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0, k = 0;
  for (; k + 3 < d; k += 4) {
    s0 += A[a + k] * B[b + k];
    s1 += A[a + k + 1] * B[b + k + 1];
    s2 += A[a + k + 2] * B[b + k + 2];
    s3 += A[a + k + 3] * B[b + k + 3];
  }
  for (; k < d; k++) s0 += A[a + k] * B[b + k];
  return s0 + s1 + s2 + s3;
}

/** A Aᵀ for A (m × p). */
export function gram(A, m, p) {
  const out = new Float64Array(m * m);
  for (let i = 0; i < m; i++) {
    for (let k = 0; k <= i; k++) out[i * m + k] = out[k * m + i] = rowDot(A, i * p, A, k * p, p);
  }
  return out;
}

/** Σ_j w_j v_j v_jᵀ over the rows of V (p × d): d × d. */
export function weightedGram(V, w, p, d) {
  const out = new Float64Array(d * d);
  for (let j = 0; j < p; j++) {
    for (let a = 0; a < d; a++) {
      const c = w[j] * V[j * d + a];
      for (let b = 0; b <= a; b++) out[a * d + b] += c * V[j * d + b];
    }
  }
  for (let a = 0; a < d; a++) for (let b = 0; b < a; b++) out[b * d + a] = out[a * d + b];
  return out;
}

/** Lower Cholesky factor of A (m × m), or null where A is not positive definite. */
export function cholesky(A, m) {
  const L = new Float64Array(m * m);
  for (let i = 0; i < m; i++) {
    for (let k = 0; k <= i; k++) {
      const s = A[i * m + k] - rowDot(L, i * m, L, k * m, k);
      if (i > k) L[i * m + k] = s / L[k * m + k];
      else if (s > 0 && s < Infinity) L[i * m + i] = Math.sqrt(s);
      else return null;
    }
  }
  return L;
}

/** X with L Lᵀ X = B, for B (m × columns). */
export function choleskySolve(L, B, m, columns = 1) {
  const X = Float64Array.from(B);
  for (let c = 0; c < columns; c++) {
    for (let i = 0; i < m; i++) {
      let s = X[i * columns + c];
      for (let k = 0; k < i; k++) s -= L[i * m + k] * X[k * columns + c];
      X[i * columns + c] = s / L[i * m + i];
    }
    for (let i = m - 1; i >= 0; i--) {
      let s = X[i * columns + c];
      for (let k = i + 1; k < m; k++) s -= L[k * m + i] * X[k * columns + c];
      X[i * columns + c] = s / L[i * m + i];
    }
  }
  return X;
}

/** Eigenvalues and unit eigenvectors (the rows of `vectors`) of a symmetric A (m × m), by Jacobi's rotations.
 *  */
export function symmetricEigen(A, m) {
  const S = Float64Array.from(A);
  const Q = new Float64Array(m * m);
  for (let i = 0; i < m; i++) Q[i * m + i] = 1;
  const size = dot(S, S);
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0;
    for (let i = 0; i < m; i++) for (let k = 0; k < i; k++) off += 2 * S[i * m + k] ** 2;
    if (off <= 1e-24 * size) break;
    for (let i = 1; i < m; i++) for (let k = 0; k < i; k++) rotate(S, Q, i, k, m);
  }
  return { values: Float64Array.from({ length: m }, (_, i) => S[i * m + i]), vectors: Q };
}

/** The rotation of rows and columns i, k that makes S[i, k] vanish; Q's rows turn along. */
function rotate(S, Q, i, k, m) {
  const entry = S[i * m + k];
  if (entry === 0) return;
  const half = (S[i * m + i] - S[k * m + k]) / (2 * entry);
  const t = (half < 0 ? -1 : 1) / (Math.abs(half) + Math.hypot(half, 1));
  const c = 1 / Math.hypot(t, 1), s = t * c;
  for (let j = 0; j < m; j++) {
    const x = S[i * m + j], y = S[k * m + j];
    S[i * m + j] = c * x + s * y;
    S[k * m + j] = c * y - s * x;
    const u = Q[i * m + j], v = Q[k * m + j];
    Q[i * m + j] = c * u + s * v;
    Q[k * m + j] = c * v - s * u;
  }
  for (let j = 0; j < m; j++) {
    const x = S[j * m + i], y = S[j * m + k];
    S[j * m + i] = c * x + s * y;
    S[j * m + k] = c * y - s * x;
  }
}
