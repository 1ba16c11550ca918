// A success curve that the reader draws, and the points that a sweep measures beside it.
import { add } from "../shared/dom.js";

const WIDTH = 380, HEIGHT = 250, LEFT = 46, RIGHT = 14, TOP = 14, BOTTOM = 42;
const STEP = 5; // per cent an arrow key moves

/** Wilson's interval for `hits` of `runs`, at 95 %: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927). */
export function wilson(hits, runs, z = 1.959963984540054) {
  const centre = (hits + (z * z) / 2) / (runs + z * z);
  const half = (z / (runs + z * z)) * Math.sqrt((hits * (runs - hits)) / runs + (z * z) / 4);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/** A chart in `svg` over `ratios`. `guess` holds the reader's shares; `onGuess` is told of a change; `onReplay(index)`
 *  of a click on what was measured. Returns {guess, measured(index, hits, runs), clear()}. */
export function sketch(svg, ratios, book, { onGuess, onReplay }) {
  const x = (index) => LEFT + ((WIDTH - LEFT - RIGHT) * (index + 0.5)) / ratios.length;
  const y = (share) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - share);
  const place = (ratio) => { // between columns by the logarithm, as the eye reads a scale
    const after = ratios.findIndex((r) => r >= ratio);
    if (after <= 0) return after ? x(ratios.length - 1) : x(0);
    const [a, b] = [ratios[after - 1], ratios[after]];
    return x(after - 1) + ((x(after) - x(after - 1)) * Math.log(ratio / a)) / Math.log(b / a);
  };
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  for (const share of [0, 0.5, 1]) {
    add(svg, "line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(share), y2: y(share), class: "pg-rule" });
    add(svg, "text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`);
  }
  add(svg, "line", { x1: place(1), x2: place(1), y1: y(0), y2: y(1), class: "pg-tolerance" });
  add(svg, "text", { x: place(1) - 5, y: y(1) + 14, "text-anchor": "end" }, "p = dn");
  ratios.forEach((ratio, i) => add(svg, "text", { x: x(i), y: HEIGHT - 24, "text-anchor": "middle" }, ratio));
  const name = { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" };
  add(svg, "text", name, "parameters per unknown pixel, p/dn");
  const inside = book.filter(({ ratio }) => ratio >= ratios[0] && ratio <= ratios.at(-1));
  const line = inside.map(({ ratio, share }, k) => `${k ? "L" : "M"}${place(ratio).toFixed(1)} ${y(share).toFixed(1)}`);
  add(svg, "path", { class: "pg-book", d: line.join("") });

  const guess = ratios.map((ratio) => (ratio < 1 ? 0.2 : Math.min(1, 0.2 + 0.2 * ratio))); // meant to be moved
  const curve = add(svg, "path", { class: "pg-guess" });
  const points = add(svg, "g", {});
  const handles = ratios.map((ratio, i) => {
    const handle = add(svg, "circle", { r: 9, cx: x(i), class: "pg-handle", tabindex: 0, role: "slider" });
    handle.setAttribute("aria-label", `Your guess at p/dn = ${ratio}`);
    handle.setAttribute("aria-valuemin", 0);
    handle.setAttribute("aria-valuemax", 100);
    handle.addEventListener("keydown", (event) => {
      const moves = { ArrowUp: STEP, ArrowRight: STEP, ArrowDown: -STEP, ArrowLeft: -STEP, PageUp: 25, PageDown: -25,
        Home: -100, End: 100 };
      if (!(event.key in moves)) return;
      event.preventDefault();
      set(i, guess[i] + moves[event.key] / 100);
    });
    return handle;
  });

  function set(i, share) {
    guess[i] = Math.min(Math.max(Math.round(share * 100) / 100, 0), 1);
    draw();
    onGuess();
  }

  function draw() {
    curve.setAttribute("d", guess.map((share, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(share).toFixed(1)}`).join(""));
    handles.forEach((handle, i) => {
      handle.setAttribute("cy", y(guess[i]));
      handle.setAttribute("aria-valuenow", Math.round(100 * guess[i]));
      handle.setAttribute("aria-valuetext", `${Math.round(100 * guess[i])} % of the runs`);
    });
  }

  let held = null;
  const share = (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientY - box.top) * HEIGHT) / box.height;
    return 1 - (at - TOP) / (HEIGHT - TOP - BOTTOM);
  };
  svg.onpointerdown = (event) => {
    held = handles.indexOf(event.target);
    if (held < 0) return (held = null);
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
    handles[held].focus({ preventScroll: true });
  };
  svg.onpointermove = (event) => held !== null && set(held, share(event));
  svg.onpointerup = svg.onpointercancel = () => (held = null);
  draw();

  return {
    guess,
    clear: () => points.replaceChildren(),
    measured(i, hits, runs) {
      points.querySelector(`[data-index="${i}"]`)?.remove();
      const group = add(points, "g", { "data-index": i, class: "pg-measured" });
      const [low, high] = wilson(hits, runs);
      add(group, "line", { x1: x(i) + 7, x2: x(i) + 7, y1: y(low), y2: y(high) });
      add(group, "rect", { x: x(i) + 2.5, y: y(hits / runs) - 4.5, width: 9, height: 9 });
      group.onclick = () => onReplay(i);
    },
  };
}
