// From a picture to a sample on the sphere, and back.

/** The brightness that counts as zero: about the mean ink of a handwritten digit. A constant, the same
 *  whatever is drawn. */
export const MEAN = 0.3;

/** x = √d (q − m)/‖q − m‖ for a picture q with pixels in [0, 1]: the sphere keeps the shape and forgets the
 *  contrast. */
export function toSample(pixels) {
  const centred = Float64Array.from(pixels, (q) => q - MEAN);
  const norm = Math.hypot(...centred);
  return centred.map((c) => (c / norm) * Math.sqrt(centred.length));
}

/** q = m + s x with the largest s that leaves every pixel in [0, 1]. It needs no original: a picture that has
 *  bare paper or full ink anywhere comes back as it was drawn. */
export function toPixels(sample) {
  let s = Infinity;
  for (const x of sample) if (x) s = Math.min(s, (x > 0 ? 1 - MEAN : MEAN) / Math.abs(x));
  return Float64Array.from(sample, (x) => MEAN + s * x);
}

/** The samples of pictures, one after another; throws an Error that says what to change where they cannot be
 *  told apart. */
export function toSamples(pictures) {
  pictures.forEach((pixels, i) => {
    if (pixels.every((q) => q === pixels[0])) {
      const what = pixels[0] ? "one even tone" : "blank";
      throw new Error(`Picture ${i + 1} is ${what}. Draw something on it, or remove it.`);
    }
  });
  const samples = pictures.map(toSample);
  for (let i = 0; i < samples.length; i++) {
    for (let k = 0; k < i; k++) {
      if (samples[i].every((x, at) => Math.abs(x - samples[k][at]) < 1e-6)) {
        throw new Error(`Pictures ${k + 1} and ${i + 1} are the same. Change one: their features coincide, ` +
          "and no method can tell how often a picture was there.");
      }
    }
  }
  return Float64Array.from(samples.flatMap((x) => [...x]));
}
