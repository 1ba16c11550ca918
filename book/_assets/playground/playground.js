// The page: draw → train → forget → recover → compare. It keeps what each step may know apart: training sees
// the drawings, the attack gets the task that training leaves, and the comparison comes when the attack is
// over.
import { make } from "../shared/dom.js";
import { activations } from "./activations.js";
import { drawNumbers, drawPicture } from "./canvas.js";
import { lossChart } from "./chart.js";
import { easel } from "./easel.js";
import { DIGITS, EXAMPLES, resample } from "./library.js";
import { match } from "./matching.js";
import { toPixels } from "./pictures.js";
import { player } from "./player.js";
import { recover } from "./recovery.js";
import { train } from "./training.js";
import { small, verdict, whole } from "./verdict.js";

const RATIOS = [0.5, 0.75, 0.9, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6, 8, 10, 12];
const FEWEST = 2, MOST = 6;
const BUDGET = 20; // seconds for an attack
const PROGRESS = {
  search: "Searching",
  signs: "Reading off the signs",
  nudged: "Nudged, to see whether it comes back",
  "another set": "Searching for another set that fits",
};
const FOCUS = { draw: "draw-title", trained: "forget-title", recovering: "stop", done: "outcome-title" };
const TILES = [4, 12]; // least and most pixels of the screen a side for a number of θ
const STRIP = 40; // height in pixels that the strip of θ would like to have

const page = document.getElementById("playground");
const part = (name) => page.querySelector(`[data-part="${name}"]`);

const drawings = EXAMPLES.map((pixels) => pixels.slice());
let current = 0; // the drawing on the easel
let seed = 0; // of V and the labels: another one for every training
let attempt = 0; // seed of the attack
let trained = null; // {samples, task}
let running = null;

const board = easel(part("easel"), () => drawThumb(current));

// ---------------------------------------------------------------------------------------------- draw

function showDrawings() {
  part("thumbs").replaceChildren(...drawings.map((_, i) => {
    const thumb = make("button", { type: "button", className: "pg-thumb" }, make("canvas"));
    thumb.onclick = () => select(i);
    return thumb;
  }));
  drawings.forEach((_, i) => drawThumb(i));
  part("add").disabled = drawings.length === MOST;
  part("remove").disabled = drawings.length === FEWEST;
  select(Math.min(current, drawings.length - 1));
  showCount();
}

function drawThumb(i) {
  const thumb = part("thumbs").children[i], blank = drawings[i].every((q) => !q);
  drawPicture(thumb.firstChild, drawings[i]);
  thumb.setAttribute("aria-label", `Picture ${i + 1}${blank ? ", blank" : ""}`);
  complain("");
}

function select(i) {
  current = i;
  [...part("thumbs").children].forEach((thumb, k) => thumb.setAttribute("aria-pressed", k === i));
  board.show(drawings[i], `Picture ${i + 1}`);
}

function replace(pixels) {
  drawings[current] = pixels;
  drawThumb(current);
  select(current);
}

const side = () => Number(part("grid").value);
const ratio = () => RATIOS[part("ratio").value];

function showCount() {
  const d = side() ** 2, n = drawings.length;
  part("ratio-value").textContent = ratio();
  part("ratio").setAttribute("aria-valuetext", ratio());
  part("count").textContent =
    `${whole(Math.round(ratio() * d * n))} parameters for ${n} × ${d} = ${whole(n * d)} unknown pixels`;
}

function complain(text) {
  part("complaint").textContent = text;
}

part("add").onclick = () => {
  drawings.push(new Float64Array(side() ** 2));
  current = drawings.length - 1;
  showDrawings();
};
part("remove").onclick = () => {
  drawings.splice(current, 1);
  showDrawings();
};
part("clear").onclick = () => replace(new Float64Array(side() ** 2));
part("digit").onclick = () => {
  const fresh = DIGITS.map(({ pixels }) => resample(pixels, side()))
    .filter((pixels) => !drawings.some((drawn) => drawn.every((q, k) => q === pixels[k])));
  replace(fresh[Math.floor(Math.random() * fresh.length)].slice());
};
part("grid").onchange = () => {
  drawings.forEach((pixels, i) => (drawings[i] = resample(pixels, side()).slice()));
  showDrawings();
};
part("ratio").oninput = showCount;

// ---------------------------------------------------------------------------------------------- train

part("train").onclick = () => {
  try {
    trained = train(drawings, { ratio: ratio(), activation: part("activation").value, seed: seed + 1 });
  } catch (error) {
    return complain(error.message);
  }
  seed += 1;
  attempt = 0;
  part("thumbs").replaceChildren(); // nothing of the drawings stays on the page
  board.show(new Float64Array(side() ** 2), "Picture 1");
  go("trained");
  showTheta();
};

function showTheta() {
  const { theta, n, d, activation, weightsSeed } = trained.task;
  const strip = part("theta");
  const width = strip.parentElement.clientWidth;
  const tile = Math.min(Math.max(Math.sqrt((width * STRIP) / theta.length), TILES[0]), TILES[1]);
  drawNumbers(strip, theta, Math.floor(width / tile));
  strip.setAttribute("aria-label", `The ${whole(theta.length)} numbers of θ as tiles of colour, like noise`);
  const numbers = [...theta.slice(0, 6)].map((value) => value.toFixed(4).replace("-", "−"));
  part("numbers").textContent = `θ = (${numbers.join(", ")}, … ${whole(theta.length - 6)} more)`;
  part("sent").replaceChildren(...[
    ["θ", `${whole(theta.length)} numbers`],
    ["V", `seed ${weightsSeed}`],
    ["n", `${n} pictures`],
    ["d", `${d} pixels each`],
    ["φ", activations[activation].label],
  ].map(([symbol, value]) => make("li", {}, make("b", { textContent: symbol }), ` ${value}`)));
}

// ---------------------------------------------------------------------------------------------- recover

part("recover").onclick = () => {
  go("recovering");
  part("verdict").replaceChildren();
  const chart = lossChart(part("chart"));
  const { n, d } = trained.task;
  const blank = new Float64Array(d);
  showCards(Array.from({ length: n }, (_, i) => ({ views: [["", blank, `what the search has, ${i + 1}`]] })));
  const show = (steps) => {
    steps.forEach((step) => chart.add(step));
    const { X, loss, stage } = steps.at(-1);
    part("progress").textContent = `${PROGRESS[stage]}: step ${chart.length}, loss ${small(loss)}.`;
    const found = part("cards").querySelectorAll("canvas");
    for (let i = 0; i < n; i++) drawPicture(found[i], toPixels(X.subarray(i * d, (i + 1) * d)));
  };
  const frames = player(show, finish);
  const task = { ...trained.task, seed: attempt++, budget: BUDGET };
  const attack = recover(task, page.dataset.worker, { onStep: frames.step, onResult: frames.end });
  part("same-thread").hidden = attack.inWorker;
  running = { stop: () => [attack, frames].forEach((one) => one.stop()) };
  part("outcome").scrollIntoView({ block: "nearest" });
};

part("stop").onclick = () => {
  running.stop();
  go("done");
  part("recover").textContent = "Recover again";
  say("Stopped", ["The pictures are those of the last step shown; they are not compared with the drawings."]);
};

function finish(result) {
  const { samples, task: { d, activation } } = trained;
  go("done");
  const { title, lines, columns } = verdict(result, match(result.X, samples, d), activations[activation]);
  say(title, lines);
  part("recover").textContent = "Recover again";
  part("recover").hidden = result.converged || !result.determined;
  showCards(comparison(result, samples, d, columns));
  part("chart").setAttribute("aria-label", `The loss fell to ${result.loss.toExponential(0)}`);
}

/** A card for each drawing: itself, and what was found for it in each of the columns. */
function comparison(result, samples, d, columns) {
  const sample = (X, i) => X.subarray(i * d, (i + 1) * d);
  const scored = columns.map((column) => ({ ...column, pairs: match(column.X(result), samples, d) }));
  return Array.from({ length: samples.length / d }, (_, i) => ({
    views: [
      ["drawn", toPixels(sample(samples, i)), `picture ${i + 1} as drawn`],
      ...scored.map(({ name, X, sign = 1, pairs }) => {
        const estimate = sample(X(result), pairs[i].index).map((value) => sign * value);
        return [name, toPixels(estimate), `${name}, for picture ${i + 1}`];
      }),
    ],
    caption: scored.filter(({ error }) => error).map(({ error, pairs }) => error(pairs[i])).join("; "),
    error: scored[0].pairs[i].error,
  }));
}

function showCards(cards) {
  part("cards").replaceChildren(...cards.map(({ views, caption, error }) => {
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
  }));
}

function say(title, lines) {
  const text = lines.map((line) => make("p", { textContent: line }));
  part("verdict").replaceChildren(make("h3", { textContent: title }), ...text);
}

// ---------------------------------------------------------------------------------------------- steps

/** One of draw, trained, recovering, done: what is to be seen, and where the keyboard goes. */
function go(stage) {
  page.dataset.stage = stage;
  part("draw").hidden = stage !== "draw";
  part("forget").hidden = stage === "draw";
  part("outcome").hidden = stage !== "recovering" && stage !== "done";
  part("recover").hidden = stage === "recovering";
  part("stop").hidden = stage !== "recovering";
  part("progress").hidden = stage !== "recovering";
  if (stage === "trained") part("recover").textContent = "Recover";
  part(FOCUS[stage]).focus({ preventScroll: true });
  part(FOCUS[stage]).scrollIntoView({ block: "nearest" });
}

part("back").onclick = () => {
  running?.stop();
  trained = null;
  showDrawings();
  go("draw");
};

part("ratio").max = RATIOS.length - 1;
part("ratio").value = RATIOS.indexOf(5);
part("activation").append(...Object.entries(activations).map(([name, { label }]) => new Option(label, name)));
showDrawings();
page.hidden = false;
document.getElementById("playground-waiting").hidden = true;
