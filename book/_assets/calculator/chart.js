// The recipes on a logarithmic axis of equations for each unknown, between what labels take and "far above".
import { add } from "../shared/dom.js";

const ROW = 40, TOP = 46, BOTTOM = 40, LEFT = 12, RIGHT = 12;
const LETTER = 8; // width of a label's letter at most, as a mean

const digits = (exponent) => [...String(exponent)].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");
const tick = (exponent) => (exponent === 0 ? "1" : exponent === 1 ? "10" : `10${digits(exponent)}`);

/** Draw `rows`, each {name, equations, value, kind}, into `svg`, as wide as it is shown; `labels` is how many equations
 *  for each unknown the labels alone take. */
export function drawChart(svg, rows, labels) {
  const width = Math.max(svg.clientWidth, 280), height = TOP + BOTTOM + ROW * rows.length;
  const logs = [Math.log10(labels), 2, ...rows.map((row) => Math.log10(row.equations))];
  const low = Math.floor(Math.min(...logs)) - 0.4, high = Math.ceil(Math.max(...logs)) + 0.4;
  const x = (log) => LEFT + ((width - LEFT - RIGHT) * (log - low)) / (high - low);
  const bottom = height - BOTTOM;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.height = `${height}px`;

  add(svg, "rect", { x: x(0), y: TOP - 8, width: width - RIGHT - x(0), height: bottom - TOP + 8, class: "rc-above" });
  const step = Math.ceil((high - low) / (width / 55));
  for (let e = Math.ceil(low); e <= high; e += 1) {
    if (e % step) continue;
    add(svg, "line", { x1: x(e), x2: x(e), y1: TOP - 8, y2: bottom, class: "rc-rule" });
    add(svg, "text", { x: x(e), y: bottom + 16, "text-anchor": "middle" }, tick(e));
  }
  add(svg, "text", { x: width / 2, y: height - 4, "text-anchor": "middle" }, "equations for each unknown number");
  const marks = [[Math.log10(labels), "labels", "start"], [0, "as many", "end"]];
  for (const [log, label, anchor] of marks) {
    add(svg, "line", { x1: x(log), x2: x(log), y1: TOP - 8, y2: bottom, class: "rc-mark" });
    add(svg, "text", { x: x(log) + (anchor === "end" ? -6 : 0), y: TOP - 14, "text-anchor": anchor, class: "rc-name" }, label);
  }
  add(svg, "text", { x: width - RIGHT, y: TOP - 14, "text-anchor": "end", class: "rc-name" }, "far more →");
  rows.forEach(({ name, equations, value, kind }, k) => {
    const y = TOP + ROW * (k + 0.62), at = x(Math.log10(equations)), right = at < width / 2;
    add(svg, "line", { x1: x(low), x2: at, y1: y, y2: y, class: "rc-stem" });
    add(svg, "circle", { cx: at, cy: y, r: 6, class: `rc-dot rc-${kind}` });
    const text = `${name}: ${value}`, room = width - LEFT - LETTER * text.length; // on a phone a label may pass its dot
    const place = { y: y - 8, class: "rc-label", "text-anchor": right ? "start" : "end" };
    place.x = right ? Math.min(at + 12, Math.max(room, LEFT)) : Math.max(at - 12, width - room);
    add(svg, "text", place, text);
  });
  const told = rows.map(({ name, value }) => `${name} ${value}`).join(", ");
  svg.setAttribute("aria-label", `Equations for each unknown on a logarithmic axis: ${told}. At 1 there are as many as unknowns.`);
}
