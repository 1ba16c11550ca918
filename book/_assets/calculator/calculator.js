// The page: what is chosen → counts → chart, table, verdicts and caveats. Nothing is fetched, nothing is sent.
import { make } from "../shared/dom.js";
import { architectures } from "./architectures.js";
import { drawChart } from "./chart.js";
import { equationRatio, lawRatio, mostSamples, rankOf, trainedParameters } from "./counts.js";
import { auditCommand, caveats, short, verdict, whole } from "./verdict.js";

const RECIPES = {
  head: () => "Head only",
  "lora-b": (rank) => `LoRA, rank ${rank}, B alone`,
  lora: (rank) => `LoRA, rank ${rank}`,
  full: () => "Everything",
};
const KINDS = { below: "below the count", rank: "below, by rank", near: "above, near", above: "far above" };
const MOST = 1e12;

const page = document.getElementById("calculator");
const part = (name) => page.querySelector(`[data-part="${name}"]`);
const chosen = () => architectures.find(({ id }) => id === part("architecture").value);

/** A whole number from a field, or null, in which case the field says what is wrong. */
function numberFrom(name) {
  const field = part(name), value = Number(field.value);
  const fine = field.value.trim() !== "" && Number.isInteger(value) && value >= Number(field.min) && value <= MOST;
  field.setAttribute("aria-invalid", !fine);
  return fine ? value : null;
}

function recipesOf(architecture, { p, d, n, outputs, rank, softmax }) {
  if (!architecture) {
    const ratio = lawRatio(p, d, n);
    return [{ recipe: "own", name: "Your p", p, ratio, equations: ratio, labels: n, most: Math.floor(p / d) }];
  }
  const many = architecture.layers.some((layer) => !layer.head);
  const names = many ? Object.keys(RECIPES) : ["head"];
  return names.map((recipe) => {
    const count = trainedParameters(architecture, recipe, outputs, rank), { width } = architecture;
    return {
      recipe,
      name: RECIPES[recipe](rank),
      p: count,
      ratio: lawRatio(count, d, n),
      equations: equationRatio(count, width, outputs, d, n, softmax),
      labels: n * outputs,
      most: mostSamples(count, width, outputs, d, softmax),
    };
  });
}

function update() {
  const architecture = chosen();
  for (const element of page.querySelectorAll("[data-for]")) {
    element.hidden = (element.dataset.for === "own") === Boolean(architecture);
  }
  const names = architecture ? ["d", "n", "outputs", "rank"] : ["d", "n", "p"];
  const values = Object.fromEntries(names.map((name) => [name, numberFrom(name)]));
  const wrong = names.filter((name) => values[name] === null);
  part("complaint").textContent = wrong.length
    ? `Enter a whole number of at least ${part(wrong[0]).min} for ${part(wrong[0]).dataset.says}.`
    : "";
  part("results").hidden = wrong.length > 0;
  if (wrong.length) return;

  part("n-slider").value = Math.log10(values.n);
  part("n-slider").setAttribute("aria-valuetext", `${whole(values.n)} samples`);
  const rows = recipesOf(architecture, { ...values, softmax: part("softmax").checked });
  const told = rows.map((row) => ({ ...row, value: short(row.equations), ...verdict(row) }));
  const outputs = values.outputs ?? 1, rank = rankOf(outputs, values.n, part("softmax").checked);
  const unknowns = values.n * (values.d - 1 + rank);
  part("counts").replaceChildren(
    make("dt", {}, outputs > 1 ? "nK" : "n"), make("dd", {}, `${whole(values.n * outputs)}, to fit the labels`),
    make("dt", {}, rank > 1 ? "n(d − 1 + R)" : "dn"), make("dd", {}, `${whole(unknowns)}, to write the samples down` +
      (rank > 1 ? `, each with R = ${whole(rank)} coefficients` : "")),
    make("dt", {}, "≫"), make("dd", {}, "what the theorems ask; their constants are not small"),
  );
  part("rows").replaceChildren(...told.map((row) => make(
    "tr", {},
    make("th", { scope: "row" }, row.name),
    make("td", {}, whole(row.p)),
    make("td", {}, row.value),
    make("td", {}, make("span", { className: `rc-tag rc-${row.kind}` }, KINDS[row.kind])),
    make("td", {}, whole(row.most)),
  )));
  const texts = [...new Set(told.map((row) => row.text))];
  part("verdict").replaceChildren(...texts.map((text) => {
    const names = told.filter((row) => row.text === text).map((row) => `${row.name}: ${row.value} for each unknown`);
    return make("p", {}, make("strong", {}, `${names.join("; ")}.`), ` ${text}`);
  }));
  part("caveats").replaceChildren(...caveats(architecture?.input ?? "own", values.n).map((text) => make("li", {}, text)));
  part("command").textContent = auditCommand(architecture, values.d, values.n);
  drawChart(part("chart"), told, (outputs * values.n) / unknowns);
}

function choose() {
  const architecture = chosen();
  if (architecture) {
    part("d").value = architecture.d;
    part("outputs").value = architecture.outputs;
    part("inputs").textContent = architecture.inputs;
    part("source").replaceChildren(make("a", { href: architecture.source }, "Where its shapes are from"));
  } else {
    part("inputs").textContent = "numbers that describe one input";
    part("source").replaceChildren();
  }
  update();
}

part("architecture").append(
  ...architectures.map(({ id, name }) => make("option", { value: id }, name)),
  make("option", { value: "own" }, "My own numbers"),
);
part("architecture").value = "resnet-18";
part("architecture").addEventListener("change", choose);
part("n-slider").addEventListener("input", () => {
  part("n").value = Math.max(1, Number((10 ** Number(part("n-slider").value)).toPrecision(2)));
  update();
});
for (const name of ["d", "n", "p", "outputs", "rank", "softmax"]) part(name).addEventListener("input", update);
new ResizeObserver(() => part("results").hidden || update()).observe(page);
page.hidden = false;
document.getElementById("calculator-waiting").hidden = true;
choose();
