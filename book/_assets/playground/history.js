// The runs so far, side by side: what was set, what came of it; a click shows a run again.
import { make } from "../shared/dom.js";
import { drawPicture } from "./canvas.js";

const MOST = 8;

/** A strip in `list` (an <ol>). `add({pictures, label, outcome, show})` puts one more run at its front. */
export function runStrip(list) {
  const runs = [];

  function draw(current) {
    list.replaceChildren(...runs.map((run) => {
      const views = run.pictures.map((pixels) => {
        const canvas = make("canvas");
        drawPicture(canvas, pixels);
        return canvas;
      });
      const button = make("button", { type: "button" },
        make("span", { className: "pg-run-views" }, ...views),
        make("span", { textContent: run.label }), make("span", { textContent: run.outcome }));
      button.setAttribute("aria-pressed", run === current);
      button.onclick = () => {
        run.show();
        draw(run);
        list.querySelector("[aria-pressed=true]").focus();
      };
      return make("li", {}, button);
    }));
    list.parentElement.hidden = runs.length < 2;
  }

  return {
    add(run) {
      runs.unshift(run);
      runs.length = Math.min(runs.length, MOST);
      draw(run);
    },
  };
}
