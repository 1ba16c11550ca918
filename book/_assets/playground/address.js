// What is set on the page, in its address: a link shows a colleague the same pictures at the same ratio.

const TONES = 17; // as many as handwritten digits have: a letter of base 17 a pixel

/** Settings {grid, activation, ratio, drawings, defence} as the fragment of an address; `defence` holds the value of each
 *  control of the defender that was moved. */
export function toHash({ grid, activation, ratio, drawings, defence }) {
  const pictures = drawings.map((pixels) => Array.from(pixels, tone).join("")).join(".");
  return `#${new URLSearchParams({ grid, phi: activation, ratio, ...defence, pictures })}`;
}

const tone = (pixel) => Math.round(pixel * (TONES - 1)).toString(TONES);

/** The settings in a fragment, or null where it holds none that the page can show: `allowed` lists what it can,
 *  {grids, activations, ratios, defences, fewest, most}. */
export function fromHash(hash, { grids, activations, ratios, defences, fewest, most }) {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const grid = Number(fields.get("grid")), ratio = Number(fields.get("ratio")), activation = fields.get("phi");
  const texts = (fields.get("pictures") ?? "").split(".");
  const shown = texts.every((text) => text.length === grid ** 2 && /^[0-9a-g]+$/.test(text));
  const known = grids.includes(grid) && activations.includes(activation) && ratios.includes(ratio);
  if (!known || !shown || texts.length < fewest || texts.length > most) return null;
  const drawings = texts.map((text) => Float64Array.from(text, (letter) => parseInt(letter, TONES) / (TONES - 1)));
  const moved = Object.keys(defences).filter((name) => fields.has(name));
  if (!moved.every((name) => defences[name].includes(fields.get(name)))) return null;
  return { grid, activation, ratio, drawings, defence: Object.fromEntries(moved.map((name) => [name, fields.get(name)])) };
}
