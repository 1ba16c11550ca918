// Pictures and θ on canvases.

const PAPER = [250, 249, 245], INK = [24, 30, 46];
const NEGATIVE = [38, 108, 166], POSITIVE = [205, 98, 24], ZERO = [244, 243, 240];

const mix = (from, to, t) => from.map((value, k) => Math.round(value + (to[k] - value) * t));

/** The colour of a pixel, 0 paper to 1 ink: a picture keeps its tones in the dark, as a photograph would. */
export const shade = (pixel) => `rgb(${mix(PAPER, INK, pixel).join(" ")})`;

/** A picture, one canvas pixel each; the style sheet enlarges it without smoothing. */
export function drawPicture(canvas, pixels) {
  const side = Math.sqrt(pixels.length);
  paint(canvas, side, side, (k) => mix(PAPER, INK, Math.min(Math.max(pixels[k], 0), 1)));
}

/** θ as a strip of tiles: blue below zero, orange above, stronger the larger; what is hidden, NaN, stays empty. */
export function drawNumbers(canvas, numbers, columns) {
  const seen = numbers.filter((value) => !Number.isNaN(value));
  const full = 2.5 * Math.sqrt(seen.reduce((sum, value) => sum + value * value, 0) / seen.length);
  paint(canvas, columns, Math.ceil(numbers.length / columns), (k) => {
    if (k >= numbers.length || Number.isNaN(numbers[k])) return null;
    const strength = Math.min(Math.abs(numbers[k]) / full, 1);
    return mix(ZERO, numbers[k] < 0 ? NEGATIVE : POSITIVE, Math.sqrt(strength));
  });
}

function paint(canvas, width, height, colour) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let k = 0; k < width * height; k++) {
    const rgb = colour(k);
    if (rgb) image.data.set([...rgb, 255], 4 * k);
  }
  context.putImageData(image, 0, 0);
}
