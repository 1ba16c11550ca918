// The loss against the step, on a logarithmic scale, as an SVG that grows with the search.
import { add } from "../shared/dom.js";

const WIDTH = 340, HEIGHT = 210, LEFT = 58, RIGHT = 10, TOP = 12, BOTTOM = 34;
const LOWEST = -32; // decades
const LEAST_STEPS = 30;
const NAMED = ["nudged", "another set"]; // stages that get a note beside their line

const x = (step, last) => LEFT + ((WIDTH - LEFT - RIGHT) * step) / Math.max(last, LEAST_STEPS);
const y = (loss) => TOP + ((HEIGHT - TOP - BOTTOM) * Math.max(Math.log10(loss), LOWEST)) / LOWEST;

/** An empty chart in `svg`, with a line at the loss that counts as solved (null: none). `add(step)` draws one more
 *  {loss, stage}; a new stage begins a new line. */
export function lossChart(svg, tolerance) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  for (let decade = 0; decade >= LOWEST; decade -= 8) {
    const height = y(10 ** decade);
    add(svg, "line", { x1: LEFT, x2: WIDTH - RIGHT, y1: height, y2: height, class: "pg-rule" });
    const label = add(svg, "text", { x: LEFT - 6, y: height + 4, "text-anchor": "end" }, decade ? "10" : "1");
    if (decade) add(label, "tspan", { dy: -4, class: "pg-exponent" }, `−${-decade}`);
  }
  if (tolerance) {
    const solved = y(tolerance);
    add(svg, "line", { x1: LEFT, x2: WIDTH - RIGHT, y1: solved, y2: solved, class: "pg-tolerance" });
    add(svg, "text", { x: LEFT + 4, y: solved + 13, class: "pg-solved" }, "solved below this line");
  }
  add(svg, "text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "step");
  const turned = { transform: `translate(10 ${TOP + 70}) rotate(-90)`, "text-anchor": "middle" };
  add(svg, "text", turned, "loss");
  add(svg, "text", { y: HEIGHT - 18, x: LEFT, "text-anchor": "middle" }, "0");
  const last = add(svg, "text", { y: HEIGHT - 18, x: WIDTH - RIGHT, "text-anchor": "end" }, LEAST_STEPS);
  const path = add(svg, "path", { class: "pg-curve" });
  const head = add(svg, "circle", { r: 3.5, class: "pg-head", cx: -9, cy: -9 });
  const steps = [], notes = [];

  return {
    add(step) {
      if (step.stage !== steps.at(-1)?.stage && NAMED.includes(step.stage)) {
        const place = { y: y(step.loss) - 6, "text-anchor": "middle", class: "pg-note" };
        notes.push([add(svg, "text", place, step.stage), steps.length + 1]);
      }
      steps.push(step);
      const end = Math.max(steps.length, LEAST_STEPS);
      last.textContent = end;
      path.setAttribute("d", steps.map(({ loss, stage }, k) => {
        const move = k && steps[k - 1].stage === stage ? "L" : "M";
        return `${move}${x(k + 1, end).toFixed(1)} ${y(loss).toFixed(1)}`;
      }).join(""));
      for (const [note, at] of notes) note.setAttribute("x", x(at, end));
      head.setAttribute("cx", x(steps.length, end));
      head.setAttribute("cy", y(step.loss));
    },
    get length() {
      return steps.length;
    },
  };
}
