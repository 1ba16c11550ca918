// "Draw your own phase transition": the reader's guess, and a sweep over ratios and seeds on her own pictures.
import { make } from "../shared/dom.js";
import { activations } from "./activations.js";
import { match } from "./matching.js";
import { recover } from "./recovery.js";
import { sketch, wilson } from "./sketch.js";
import { train } from "./training.js";
import { FOUND } from "./verdict.js";

const RATIOS = [0.5, 0.9, 1.1, 1.5, 2, 3, 5];
const RUNS = 5; // for each ratio
const BUDGET = 2; // seconds for a search
const FIRST_SEED = 1000; // of the weights: none that the page has trained with before

/** Wires the section whose parts `part(name)` gives. `setting()` returns {drawings, activation}, or throws an Error
 *  that says what to change; `replay({ratio, seed})` trains that very run again. */
export function transition(part, workerAddress, book, { setting, replay }) {
  let runs = [], attack = null;
  const chart = sketch(part("sketch"), RATIOS, book, { onGuess: table, onReplay: again });

  const of = (i) => runs.filter((run) => run.ratio === RATIOS[i]);
  const hits = (list) => list.filter(({ back }) => back).length;
  const percent = (share) => `${Math.round(100 * share)} %`;

  function table() {
    part("shares").replaceChildren(...RATIOS.map((ratio, i) => {
      const done = of(i), cell = make("td");
      if (done.length) {
        const [low, high] = wilson(hits(done), done.length);
        cell.append(`${hits(done)} of ${done.length} (${Math.round(100 * low)}–${percent(high)})`);
      } else cell.append("–");
      const button = make("button", { type: "button", textContent: "Replay", disabled: !done.length || attack });
      button.setAttribute("aria-label", `Replay a run at p/dn = ${ratio}`);
      button.onclick = () => again(i);
      return make("tr", {}, make("th", { scope: "row", textContent: ratio }),
        make("td", { textContent: percent(chart.guess[i]) }), cell, make("td", {}, button));
    }));
  }

  /** The run to look at: one that failed, where some did and some did not; else the first. */
  function again(i) {
    const done = of(i);
    if (done.length && !attack) replay(done.find(({ back }) => !back) ?? done[0]);
  }

  function measure() {
    const { drawings, activation } = setting();
    const plan = Array.from({ length: RUNS }, (_, k) => RATIOS.map((ratio) => ({ ratio, seed: FIRST_SEED + k }))).flat();
    const odd = activations[activation].parity === "odd";
    runs = [];
    chart.clear();
    const next = () => {
      if (runs.length === plan.length) return ended(`${plan.length} searches of at most ${BUDGET} s each.`);
      const { ratio, seed } = plan[runs.length];
      part("sweep-progress").textContent = `Search ${runs.length + 1} of ${plan.length}, at p/dn = ${ratio}.`;
      const { samples, task } = train(drawings, { ratio, activation, seed });
      attack = recover({ ...task, seed, budget: BUDGET }, workerAddress, {
        onStep: () => {},
        onResult(result) {
          const pairs = match(result.X, samples, task.d);
          const error = (pair) => (odd ? pair.errorUpToSign : pair.error);
          runs.push({ ratio, seed, activation, back: pairs.every((pair) => error(pair) < FOUND) });
          const i = RATIOS.indexOf(ratio);
          chart.measured(i, hits(of(i)), of(i).length);
          table();
          next();
        },
      });
    };
    next();
    part("measure").hidden = true;
    part("halt").hidden = false;
    part("halt").focus();
  }

  function ended(text) {
    attack = null;
    part("measure").hidden = false;
    part("measure").textContent = "Measure again";
    part("halt").hidden = true;
    part("sweep-progress").textContent = text;
    table();
  }

  part("measure").onclick = () => {
    part("sweep-progress").textContent = "";
    try {
      measure();
    } catch (error) {
      ended(error.message);
    }
  };
  part("halt").onclick = () => {
    attack.stop();
    ended(`Stopped after ${runs.length} searches.`);
  };
  table();
}
