// Seedable normal numbers: sfc32 (C. Doty-Humphrey's "small fast counting" generator, 128 bits of state)
// and the Box–Muller transform. The numbers are not PyTorch's: V of a seed here is another V than in Python.

/** A generator for one purpose. The purpose salts the seed, so that equal seeds of the weights, the labels
 *  and the attack give unrelated streams: were two of them one, the attack's first draw could be the data. */
export function generator(purpose, seed) {
  const text = `reconlaw/${purpose}/${seed}`;
  let [a, b, c] = [hash(text, 0x811c9dc5), hash(text, 0x9e3779b9), hash(text, 0x85ebca6b)];
  let counter = 1;
  function bits() {
    const t = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t | 0;
    return t >>> 0;
  }
  for (let i = 0; i < 16; i++) bits(); // forget the seed's structure
  const uniform = () => (bits() + 0.5) / 4294967296; // in (0, 1): its logarithm is finite
  function normals(count) {
    const out = new Float64Array(count);
    for (let i = 0; i < count; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(uniform()));
      const angle = 2 * Math.PI * uniform();
      out[i] = radius * Math.cos(angle);
      if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
    }
    return out;
  }
  return { uniform, normals };
}

/** FNV-1a with a chosen offset. */
function hash(text, offset) {
  let h = offset;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h | 0;
}
