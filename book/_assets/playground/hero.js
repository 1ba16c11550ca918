// The front page's law: four pictures, one slider p/dn, and the playground's own attack whenever it moves.
import { drawNumbers, drawPicture } from "./canvas.js";
import { RUNS, SETTING, TRIED } from "./hero-runs.js";
import { EXAMPLES } from "./library.js";
import { match } from "./matching.js";
import { toPixels } from "./pictures.js";
import { player } from "./player.js";
import { recover } from "./recovery.js";
import { train } from "./training.js";
import { FOUND, small, whole } from "./verdict.js";

const RATIOS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5];
const BEGIN = 2.5;
const budget = () => Number(page.dataset.budget ?? 8); // seconds of a live search, before a stored run is shown
const SETTLE = 180; // milliseconds that the slider must rest
const TURNS = 1400; // milliseconds for each of two sets that both fit
const n = EXAMPLES.length, d = EXAMPLES[0].length;

const page = document.getElementById("hero");
const part = (name) => page.querySelector(`[data-part="${name}"]`);
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

let running = null; // {stop}

function canvases(box, label) {
  box.replaceChildren(...EXAMPLES.map((_, i) => {
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${label} ${i + 1}`);
    return canvas;
  }));
  return [...box.children];
}

const drawn = canvases(part("drawn"), "training picture");
const found = canvases(part("found"), "picture read out of θ,");
EXAMPLES.forEach((pixels, i) => drawPicture(drawn[i], pixels));

const show = (pictures) => pictures.forEach((pixels, i) => drawPicture(found[i], pixels));
const rows = (X) => Array.from({ length: n }, (_, i) => toPixels(X.subarray(i * d, (i + 1) * d)));
const name = (text) => (part("name").textContent = text);
const ratio = () => RATIOS[part("ratio").value];

function say(...sentences) {
  part("status").textContent = sentences.join(" ");
}

/** Rows of X in the order of the training set, which is looked at now that the attack is over. */
function ordered(X, pairs) {
  const pictures = rows(X);
  return pairs.map(({ index }) => pictures[index]);
}

function begin() {
  running?.stop();
  const { samples, task } = train(EXAMPLES, { ...SETTING, ratio: ratio() });
  const strip = part("theta"), columns = 16;
  drawNumbers(strip, task.theta, columns);
  part("numbers").textContent = `θ: ${whole(task.theta.length)} numbers`;
  name("read out of θ");
  say(ratio() < 1 ? "Looking for pictures that fit θ …" : "Searching …");
  const frames = player(
    (steps) => show(rows(steps.at(-1).X)),
    (result) => end(result, samples),
  );
  const attack = recover({ ...task, seed: 0, budget: budget() }, page.dataset.worker, {
    onStep: frames.step, onResult: frames.end,
  });
  running = { stop: () => [attack, frames].forEach((one) => one.stop()) };
}

function end(result, samples) {
  running = null;
  page.dataset.ended = ratio();
  const pairs = match(result.X, samples, d);
  if (!result.determined) return belowTheLaw(result, samples, pairs);
  if (!result.converged) return storedRun();
  show(ordered(result.X, pairs));
  const back = pairs.filter(({ error }) => error < FOUND).length;
  if (back < n) {
    return say(`θ is met exactly, and only ${back} of the ${n} pictures are right: others fit it as well.`);
  }
  say(`All four come back, found in ${result.seconds.toFixed(1)} s by this page from θ alone`,
    `(largest error ${small(Math.max(...pairs.map(({ error }) => error)))}).`);
}

/** Fewer equations than unknowns: two sets that fit θ exactly, in turn, and neither is the training set. */
function belowTheLaw(result, samples, pairs) {
  show(ordered(result.X, pairs));
  const count = `θ holds ${whole(result.equations)} numbers for ${whole(result.unknowns)} unknowns.`;
  if (!result.converged) return say(count, "Countless sets of pictures fit it, and this search is on its way to one.");
  if (!result.other) return say(count, "This set fits θ to the last digit, and it is not the training set.");
  say(count, "Two sets take turns here. Both fit θ perfectly, and neither is true.");
  const sets = [result.X, result.other.X].map((X) => ordered(X, match(X, samples, d)));
  const turn = (k) => {
    show(sets[k % 2]);
    name(`impostor ${"AB"[k % 2]}`);
  };
  turn(0);
  if (still()) return;
  let k = 0;
  const timer = setInterval(() => turn(++k), TURNS);
  running = { stop: () => clearInterval(timer) };
}

/** The search did not arrive in its seconds: what it did once, given longer. */
function storedRun() {
  const run = RUNS[ratio()];
  const here = `Still searching after ${budget()} s: the pictures are determined here, but hard to find.`;
  if (!run) return say(here, `The package's solver did not find them either (${TRIED.seeds} seeds, ${whole(TRIED.steps)} steps each).`);
  name("a stored run");
  say(here, `Shown now is a stored run of the package's solver on the same θ: ${whole(run.steps)} steps.`);
  const frames = run.frames.map((frame) => frame.map((text) => Float64Array.from(text, (c) => parseInt(c, 36) / 35)));
  if (still()) return show(frames.at(-1));
  let k = 0;
  const timer = setInterval(() => {
    show(frames[k++]);
    if (k === frames.length) clearInterval(timer);
  }, 2500 / frames.length);
  running = { stop: () => clearInterval(timer) };
}

let waiting;
function change() {
  const p = Math.round(ratio() * d * n);
  part("ratio-value").textContent = ratio();
  part("ratio").setAttribute("aria-valuetext", ratio());
  part("count").textContent = `${whole(p)} parameters for ${n} pictures of ${d} pixels: ${whole(d * n)} unknowns`;
  delete page.dataset.ended;
  running?.stop(); // else it could end at another ratio than it began at
  running = null;
  clearTimeout(waiting);
  waiting = setTimeout(begin, SETTLE);
}

part("ratio").max = RATIOS.length - 1;
part("ratio").value = RATIOS.indexOf(BEGIN);
part("ratio").oninput = change;
page.hidden = false;
page.classList.remove("coming");
show(EXAMPLES.map((pixels) => new Float64Array(pixels.length).fill(0.15)));
change();
