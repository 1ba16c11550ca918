// The page: draw → train → forget → recover → compare. It keeps what each step may know apart: training sees
// the drawings, the attack gets the task that training leaves, and the comparison comes when the attack is
// over.
import { make } from "../shared/dom.js";
import { activations } from "./activations.js";
import { fromHash, toHash } from "./address.js";
import { drawNumbers, drawPicture } from "./canvas.js";
import { comparison, pictureCards } from "./cards.js";
import { lossChart } from "./chart.js";
import { defend } from "./defence.js";
import { easel } from "./easel.js";
import { combine, randomWeights } from "./features.js";
import { runStrip } from "./history.js";
import { DIGITS, EXAMPLES, resample } from "./library.js";
import { match } from "./matching.js";
import { toPixels } from "./pictures.js";
import { player } from "./player.js";
import { recover } from "./recovery.js";
import { toleranceOf } from "./solver.js";
import { train } from "./training.js";
import { transition } from "./transition.js";
import { small, verdict, whole } from "./verdict.js";

const RATIOS = [0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6, 8, 10, 12];
const FEWEST = 2, MOST = 6;
const budget = () => Number(page.dataset.budget ?? 20); // seconds for an attack
const PROGRESS = {
  search: "Searching",
  signs: "Reading off the signs",
  nudged: "Nudged, to see whether it comes back",
  "another set": "Searching for another set that fits",
};
const FOCUS = { draw: "draw-title", trained: "forget-title", recovering: "stop", done: "outcome-title" };
const TILES = [4, 12]; // least and most pixels of the screen a side for a number of θ
const SETTLED = 300; // milliseconds without a change before the address follows
const STRIP = 40; // height in pixels that the strip of θ would like to have
const DEFENCES = ["share", "digits", "noise"]; // lists to choose from, their first value no defence
const WITHHELD = ["withhold-n", "withhold-activation"]; // boxes to tick

const page = document.getElementById("playground");
const part = (name) => page.querySelector(`[data-part="${name}"]`);

let drawings = EXAMPLES.map((pixels) => pixels.slice());
let current = 0; // the drawing on the easel
let seed = 0; // of V and the labels: another one for every training
let attempt = 0; // seed of the attack
let trained = null; // {samples, task}
let published = null; // {theta, kept, noise}: what the defender lets out
let running = null;
let remembering = 0; // a timer
let started = false; // before that, nothing is written into the address
const runs = runStrip(part("history"));

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
  remember();
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
  remember();
}

/** The values a control of the defender can have, that of no defence first; and the one it has. */
const settingsOf = (name) => (WITHHELD.includes(name) ? ["no", "yes"] : Array.from(part(name).options, (one) => one.value));
const setting = (name) => (WITHHELD.includes(name) ? settingsOf(name)[Number(part(name).checked)] : part(name).value);

/** The address follows what is set, once anything is: a link to it shows the same pictures. */
function remember() {
  clearTimeout(remembering); // browsers take only so many changes of an address
  if (!started) return;
  remembering = setTimeout(() => {
    const moved = [...DEFENCES, ...WITHHELD].filter((name) => setting(name) !== settingsOf(name)[0]);
    const defence = Object.fromEntries(moved.map((name) => [name, setting(name)]));
    const set = { grid: side(), activation: part("activation").value, ratio: ratio(), drawings, defence };
    history.replaceState(null, "", toHash(set));
  }, SETTLED);
}

function restore() {
  const grids = Array.from(part("grid").options, (option) => Number(option.value));
  const allowed = { grids, activations: Object.keys(activations), ratios: RATIOS, fewest: FEWEST, most: MOST };
  allowed.defences = Object.fromEntries([...DEFENCES, ...WITHHELD].map((name) => [name, settingsOf(name)]));
  const set = fromHash(location.hash, allowed);
  if (!set) return;
  part("grid").value = set.grid;
  part("activation").value = set.activation;
  part("ratio").value = RATIOS.indexOf(set.ratio);
  drawings = set.drawings;
  for (const [name, value] of Object.entries(set.defence)) {
    if (WITHHELD.includes(name)) part(name).checked = true;
    else part(name).value = value;
    part("defence").open = true;
  }
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
part("activation").onchange = remember;

// ---------------------------------------------------------------------------------------------- train


part("train").onclick = () => {
  try {
    trainOn({ ratio: ratio(), activation: part("activation").value, seed: seed + 1 });
  } catch (error) {
    return complain(error.message);
  }
  seed += 1;
  forget();
};

function trainOn(setting) {
  trained = { ...train(drawings, setting), ratio: setting.ratio };
  attempt = 0;
}

function forget() {
  part("thumbs").replaceChildren(); // nothing of the drawings stays on the page
  board.show(new Float64Array(side() ** 2), "Picture 1");
  go("trained");
  publish();
}

const defences = () => Object.fromEntries(DEFENCES.map((name) => [name, Number(part(name).value)]));
const withheld = (name) => part(`withhold-${name}`).checked;

/** θ as the defender lets it out, and what of it the page shows. */
function publish() {
  const { theta, n, d, activation, weightsSeed } = trained.task;
  published = defend(theta, defences(), weightsSeed);
  const { kept, noise } = published, count = published.theta.length;
  const tape = new Float64Array(theta.length).fill(NaN);
  published.theta.forEach((value, k) => (tape[kept ? kept[k] : k] = value));
  const canvas = part("theta");
  const width = canvas.parentElement.clientWidth;
  const tile = Math.min(Math.max(Math.sqrt((width * STRIP) / theta.length), TILES[0]), TILES[1]);
  drawNumbers(canvas, tape, Math.floor(width / tile));
  const hidden = kept ? `, ${whole(theta.length - count)} of them hidden` : "";
  canvas.setAttribute("aria-label", `The ${whole(theta.length)} numbers of θ as tiles of colour, like noise${hidden}`);
  const digits = Number(part("digits").value);
  const text = (value) => (digits ? Number(value.toPrecision(digits)).toString() : value.toFixed(4)).replace("-", "−");
  const numbers = [...published.theta.slice(0, 6)].map(text);
  part("numbers").textContent = `θ = (${numbers.join(", ")}, … ${whole(count - 6)} more)`;
  const per = Number((count / (n * d)).toPrecision(2));
  part("left").textContent = `${whole(count)} numbers for ${whole(n * d)} unknown pixels: p/dn = ${per}.`;
  part("sent").replaceChildren(...[
    ["θ", `${whole(count)} numbers${noise ? `, each off by about ${small(noise)}` : ""}`],
    ["V", `seed ${weightsSeed}${kept ? ", and which rows" : ""}`],
    ["n", withheld("n") ? "withheld" : `${n} pictures`],
    ["d", `${d} pixels each`],
    ["φ", withheld("activation") ? "withheld" : activations[activation].label],
  ].map(([symbol, value]) => make("li", {}, make("b", { textContent: symbol }), ` ${value}`)));
}

for (const name of [...DEFENCES, ...WITHHELD]) {
  part(name).onchange = () => {
    publish();
    remember();
  };
}

/** All that the attack is given; what is not defended is not mentioned. */
function handedOut() {
  const { theta, ...task } = trained.task;
  const { kept, noise } = published;
  return {
    ...task,
    theta: published.theta,
    ...(kept ? { p: theta.length, kept } : {}),
    ...(noise ? { noise } : {}),
    ...(withheld("n") ? { n: null } : {}),
    ...(withheld("activation") ? { activation: null } : {}),
  };
}

// ---------------------------------------------------------------------------------------------- recover

part("recover").onclick = attack;

function attack() {
  go("recovering");
  part("verdict").replaceChildren();
  const { n, d } = trained.task, task = { ...handedOut(), seed: attempt++, budget: budget() };
  const scale = task.theta.reduce((sum, value) => sum + value * value, 0);
  const chart = lossChart(part("chart"), task.n && toleranceOf(task.theta.length, n * d, task.noise ?? 0, scale));
  const blank = new Float64Array(d), begun = performance.now();
  part("cards").replaceChildren(...pictureCards(Array.from({ length: n }, (_, i) => ({ views: [["", blank, `what the search has, ${i + 1}`]] }))));
  const show = (steps) => {
    steps.forEach((step) => chart.add(step));
    const { X, loss, stage, start } = steps.at(-1);
    const left = Math.max(0, Math.ceil(task.budget - (performance.now() - begun) / 1000));
    const which = start > 1 ? `start ${start}, ` : "";
    part("progress").textContent = `${PROGRESS[stage]}: ${which}step ${chart.length}, loss ${small(loss)}; ` +
      `${left} s left at most.`;
    part("cards").querySelectorAll("canvas").forEach((canvas, i) => {
      drawPicture(canvas, (i + 1) * d <= X.length ? toPixels(X.subarray(i * d, (i + 1) * d)) : blank);
    });
  };
  const frames = player(show, (result) => finish(result, task));
  const search = recover(task, page.dataset.worker, { onStep: frames.step, onResult: frames.end });
  part("same-thread").hidden = search.inWorker;
  running = { stop: () => [search, frames].forEach((one) => one.stop()) };
  part("outcome").scrollIntoView({ block: "nearest" });
}

part("stop").onclick = () => {
  running.stop();
  go("done");
  part("recover").textContent = "Recover again";
  say("Stopped", ["The pictures are those of the last step shown; they are not compared with the drawings."]);
};

function finish(result, task) {
  const { samples, ratio: trainedAt, task: { n, d, activation } } = trained;
  const phi = activations[result.activation];
  const { title, lines, columns, flip } = verdict(result, match(result.X, samples, d), phi, task);
  const cards = comparison(result, samples, d, columns);
  const loss = `The loss fell to ${result.loss.toExponential(0)}`;
  const show = () => {
    say(title, lines);
    if (flip) part("verdict").append(flipButton(result, task, d));
    part("cards").replaceChildren(...pictureCards(cards));
    part("chart").setAttribute("aria-label", loss);
  };
  go("done");
  show();
  part("recover").textContent = "Recover again";
  part("recover").hidden = result.converged || !result.determined;
  part("again-ratio").value = RATIOS.indexOf(trainedAt);
  showAgain();
  const pictures = cards.map(({ views }) => views[1][1]);
  const setting = `p/dn = ${trainedAt}, ${activations[activation].label}, ${n} pictures`;
  runs.add({ pictures, label: `${setting}${task.theta.length < trained.task.theta.length ||
    task.noise ? ", defended" : ""}`, outcome: title, show });
}

/** Under an odd φ a picture and its coefficient may both change sign: the reader sees θ stay as it is. */
function flipButton({ X, alpha, activation }, { weightsSeed, p, theta }, d) {
  const button = make("button", { type: "button", textContent: "Flip the sign of the first picture" });
  button.onclick = () => {
    const all = randomWeights(weightsSeed, p ?? theta.length, d), phi = activations[activation];
    const other = X.map((x, k) => (k < d ? -x : x)), coefficients = alpha.map((a, i) => (i ? a : -a));
    const [before, after] = [[X, alpha], [other, coefficients]].map(([U, a]) => combine(U, a, all, d, phi));
    const apart = Math.max(...before.map((value, j) => Math.abs(value - after[j])));
    const size = Math.max(...before.map(Math.abs));
    button.replaceWith(make("p", { textContent: "The first picture and its coefficient have changed sign. Of the " +
      `${whole(before.length)} numbers that the two sets give for θ, the largest difference is ${small(apart / size)} ` +
      "of the largest number." }));
  };
  return button;
}

function showAgain() {
  part("again-value").textContent = RATIOS[part("again-ratio").value];
  part("again-ratio").setAttribute("aria-valuetext", RATIOS[part("again-ratio").value]);
}

part("again-ratio").oninput = showAgain;
part("again").onclick = () => {
  part("ratio").value = part("again-ratio").value;
  showCount();
  seed += 1;
  trainOn({ ratio: ratio(), activation: trained.task.activation, seed });
  publish();
  attack();
};

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
  part("once-more").hidden = stage !== "done";
  part("defence").hidden = stage === "recovering";
  if (stage === "trained") part("recover").textContent = "Recover";
  part(FOCUS[stage]).focus({ preventScroll: true });
  part(FOCUS[stage]).scrollIntoView({ block: "nearest" });
}

part("back").onclick = backToDrawings;

function backToDrawings() {
  running?.stop();
  trained = null;
  showDrawings();
  go("draw");
}

for (const name of ["ratio", "again-ratio"]) {
  part(name).max = RATIOS.length - 1;
  part(name).value = RATIOS.indexOf(5);
}
part("activation").append(...Object.entries(activations).map(([name, { label }]) => new Option(label, name)));
restore();
showDrawings();
started = true;
transition(part, page.dataset.worker, JSON.parse(page.dataset.book), {
  setting: () => ({ drawings, activation: part("activation").value }),
  replay({ ratio: at, seed: weights, activation }) {
    running?.stop();
    part("ratio").value = Math.max(0, RATIOS.indexOf(at));
    trainOn({ ratio: at, activation, seed: weights });
    forget();
    attack();
  },
});
page.hidden = false;
page.classList.remove("coming");
document.getElementById("playground-waiting").hidden = true;
