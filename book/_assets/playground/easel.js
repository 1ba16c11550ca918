// One picture to draw on: a grid of cells for mouse, touch and pen, and for the keyboard (arrows move, space
// inks).
import { shade } from "./canvas.js";

/** Fills `grid` with side × side cells that show and change `pixels`; onChange is called after every change.
 *  */
export function easel(grid, onChange) {
  let pixels, side, cells = [], current = 0, ink = 1, last = null;

  function show(picture, name) {
    pixels = picture;
    const size = Math.sqrt(picture.length);
    if (size !== side) build(size);
    grid.setAttribute("aria-label", `${name}, ${side} by ${side} cells`);
    cells.forEach((_, k) => refresh(k));
  }

  function build(size) {
    side = size;
    current = 0;
    grid.style.setProperty("--side", side);
    const rows = Array.from({ length: side }, (_, row) => {
      const line = element("row", `row ${row + 1}`);
      line.append(...Array.from({ length: side }, (_, column) => {
        const cell = element("gridcell", `row ${row + 1}, column ${column + 1}`);
        cell.tabIndex = row + column ? -1 : 0;
        return cell;
      }));
      return line;
    });
    grid.replaceChildren(...rows);
    cells = [...grid.querySelectorAll("[role=gridcell]")];
  }

  function refresh(k) {
    cells[k].style.backgroundColor = shade(pixels[k]);
    cells[k].setAttribute("aria-selected", pixels[k] > 0.5);
  }

  function paint(k) {
    if (pixels[k] === ink) return;
    pixels[k] = ink;
    refresh(k);
    onChange();
  }

  function focus(k) {
    cells[current].tabIndex = -1;
    current = k;
    cells[k].tabIndex = 0;
    cells[k].focus({ preventScroll: true });
  }

  /** Row and column under a pointer, in cells; the grid's own box, so that a drag may leave a cell or the
   *  grid. */
  function position({ clientX, clientY }) {
    const box = grid.getBoundingClientRect();
    return [((clientY - box.top) / box.height) * side, ((clientX - box.left) / box.width) * side];
  }

  function stroke(to) {
    const from = last ?? to;
    const points = Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])) || 1;
    for (let k = 1; k <= points; k++) { // a fast drag reports few points: fill in between
      const [row, column] = from.map((start, axis) => Math.floor(start + ((to[axis] - start) * k) / points));
      if (row >= 0 && row < side && column >= 0 && column < side) paint(row * side + column);
    }
    last = to;
  }

  grid.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    grid.setPointerCapture(event.pointerId);
    const at = position(event);
    const [row, column] = at.map((value) => Math.min(Math.max(Math.floor(value), 0), side - 1));
    ink = pixels[row * side + column] > 0.5 ? 0 : 1; // a drag goes on with what it began
    focus(row * side + column);
    stroke(at);
  });
  grid.addEventListener("pointermove", (event) => last && stroke(position(event)));
  for (const end of ["pointerup", "pointercancel"]) grid.addEventListener(end, () => (last = null));

  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  grid.addEventListener("keydown", (event) => {
    const row = Math.floor(current / side), column = current % side;
    if (event.key === " " || event.key === "Enter") {
      ink = pixels[current] > 0.5 ? 0 : 1;
      paint(current);
    } else if (event.key in moves) {
      const [down, right] = moves[event.key];
      const inside = (value) => Math.min(Math.max(value, 0), side - 1);
      focus(inside(row + down) * side + inside(column + right));
    } else if (event.key === "Home") focus(row * side);
    else if (event.key === "End") focus(row * side + side - 1);
    else return;
    event.preventDefault();
  });

  return { show };
}

function element(role, name) {
  const one = document.createElement("div");
  one.setAttribute("role", role);
  one.setAttribute("aria-label", name);
  return one;
}
