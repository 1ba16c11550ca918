// Cards that lay what was found beside what was drawn.
import { make } from "../shared/dom.js";
import { drawPicture } from "./canvas.js";
import { match } from "./matching.js";
import { toPixels } from "./pictures.js";

/** A card for each drawing: itself, and what was found for it in each of the columns. */
export function comparison(result, samples, d, columns) {
  const sample = (X, i) => ((i + 1) * d <= X.length ? X.subarray(i * d, (i + 1) * d) : new Float64Array(d));
  const scored = columns.map((column) => ({ ...column, pairs: match(column.X(result), samples, d) }));
  return Array.from({ length: samples.length / d }, (_, i) => ({
    views: [
      ["drawn", toPixels(sample(samples, i)), `picture ${i + 1} as drawn`],
      ...scored.map(({ name, X, sign = 1, pairs }) => {
        const estimate = sample(X(result), pairs[i].index).map((value) => sign * value);
        return [name, toPixels(estimate), `${name}, for picture ${i + 1}`];
      }),
    ],
    caption: scored.filter(({ error }) => error).map(({ error, pairs }) => error(pairs[i], result)).join("; "),
    error: scored[0].pairs[i].error,
  }));
}

/** The cards as elements. */
export function pictureCards(cards) {
  return cards.map(({ views, caption, error }) => {
    const row = make("div", { className: "pg-views" }, ...views.map(([name, pixels, label]) => {
      const canvas = make("canvas", { className: "pg-picture" });
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", label);
      drawPicture(canvas, pixels);
      return make("div", {}, canvas, make("span", { textContent: name }));
    }));
    const card = make("div", {}, row, ...(caption ? [make("p", { textContent: caption })] : []));
    if (caption) card.dataset.error = error;
    return card;
  });
}
