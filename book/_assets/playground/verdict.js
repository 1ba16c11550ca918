// What an attack has shown, in words, and what to lay beside the drawings.
import { activations } from "./activations.js";

export const FOUND = 1e-2; // relative error below which a picture counts as recovered
const NEGLIGIBLE = 1e-8; // an expected error that nobody needs to hear of
const HONEST = 5; // times its expected error that an error may be and still be the noise's

export const whole = (number) => number.toLocaleString("en");

/** 3·10⁻²⁹, or 0.13. */
export function small(number) {
  if (number === 0 || (number >= 0.01 && number < 100)) return String(Number(number.toPrecision(2)));
  const [mantissa, exponent] = number.toExponential(0).split("e");
  const raised = [...exponent.replace("+", "")].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");
  return `${mantissa}·10${raised}`;
}

const found = { name: "found", X: (result) => result.X };
const expected = ({ index }, { standardErrors }) =>
  standardErrors && standardErrors[index] > NEGLIGIBLE ? `, expected about ${small(standardErrors[index])}` : "";
const signed = (pair, result) => `error ${small(pair.error)}${expected(pair, result)}`;
const upToSign = (pair, result) => `error up to sign ${small(pair.errorUpToSign)}${expected(pair, result)}`;

/** {title, lines, columns} for a result and its pairs with the originals; a column is laid beside the drawings. `task`
 *  tells what the attack was given: what was withheld, and how large the noise on θ was. */
export function verdict(result, pairs, phi, task) {
  const { title, lines, columns, flip } = judged(result, pairs, phi, task);
  return { title, lines: [...lines, ...tried(result, pairs, task)], columns, flip };
}

function judged(result, pairs, phi, { noise = 0 }) {
  if (!result.determined) return notThere(result);
  if (!result.converged) return notFound(result, phi);
  const odd = !result.signIdentifiable;
  const errors = pairs.map((pair) => (odd ? pair.errorUpToSign : pair.error));
  const back = errors.filter((error) => error < FOUND).length;
  const blurred = noise > 0 && back < errors.length && result.standardErrors !== null &&
    pairs.every(({ index }, i) => errors[i] < HONEST * result.standardErrors[index]);
  const all = back === errors.length ? `All ${back} pictures` : `${back} of the ${errors.length} pictures`;
  const solved = `Loss ${small(result.loss)} after ${result.seconds.toFixed(2)} s.`;
  const nudged = result.unique ? " Nudged and let go, the search comes back to the same pictures." : "";
  const largest = small(Math.max(...errors));
  const compared = `Compared afterwards with the drawings: the largest error is ${largest}.`;
  if (result.unique === false) {
    return {
      title: "θ is met, but not by these pictures alone",
      lines: [
        `${solved} Nudged and let go, the search ends at other pictures that fit θ as well: there are ` +
          "enough parameters by count, but too many of them say the same.",
        compared,
      ],
      columns: [
        { ...found, error: odd ? upToSign : signed },
        { name: "fits too", X: ({ other }) => other.X },
      ],
    };
  }
  if (blurred) {
    return {
      title: "Found, as sharp as the noise lets",
      lines: [
        `${solved}${nudged} θ is met as well as its noise lets any pictures meet it. How far off each picture may be ` +
          "is told without looking at the drawings; it stands below the picture.",
        compared,
      ],
      columns: [{ ...found, error: odd ? upToSign : signed }],
    };
  }
  if (odd && back < errors.length) {
    return { title: "θ is met by other pictures", lines: [solved, compared], columns: [{ ...found, error: upToSign }] };
  }
  if (odd) {
    return {
      flip: true,
      title: "Recovered, up to sign",
      lines: [
        `${solved}${nudged} ${phi.label} is odd: a picture with coefficient a and its negative with −a ` +
          "give the same θ. No method can tell which of the two was there, so both are shown.",
        compared,
      ],
      columns: [{ ...found, error: upToSign }, { ...found, name: "or this", sign: -1 }],
    };
  }
  return {
    title: back === errors.length ? "Recovered" : "θ is met by other pictures",
    lines: [`${all} came back out of θ. ${solved}${nudged}`, compared],
    columns: [{ ...found, error: signed }],
  };
}

/** What it did where it was not told how many pictures there were, or which activation. */
function tried(result, pairs, { n, activation }) {
  if (n && activation) return [];
  const what = [n ? "" : "how many pictures there were", activation ? "" : "the activation"];
  const told = `Nobody told it ${what.filter(Boolean).join(", or ")}. `;
  if (!result.converged) return [`${told}None of the ${result.tried} combinations that it tried fits θ.`];
  const which = `${result.n} ${result.n > 1 ? "pictures" : "picture"} and ${activations[result.activation].label}`;
  const right = result.n === pairs.length ? "" : ` There were ${pairs.length} pictures.`;
  return [`${told}It tried ${result.tried} of the combinations, until ${which} fitted.${right}`];
}

function notThere({ equations, unknowns, loss, converged, other }) {
  const why = `θ holds ${whole(equations)} numbers, the pictures ${whole(unknowns)} unknowns: ` +
    "too few equations, whatever the method.";
  const first = { name: "fit A", X: ({ X }) => X, error: ({ error }) => `A: error ${small(error)}` };
  const second = { name: "fit B", X: ({ other }) => other.X, error: ({ error }) => `B: ${small(error)}` };
  if (other) {
    return {
      title: "The information is not there",
      lines: [
        why,
        `Two different sets, A and B, both fit θ to the last digit (losses ${small(loss)} and ` +
          `${small(other.loss)}), and so do countless more. The drawings are one of them; nothing in θ ` +
          "says which.",
      ],
      columns: [first, second],
    };
  }
  return {
    title: "The information is not there",
    lines: [
      why,
      converged
        ? `Set A fits θ to the last digit (loss ${small(loss)}), and it is not what was drawn.`
        : `The search came to a loss of ${small(loss)} in its time; a set that fits exactly need not ` +
          "be the drawings.",
    ],
    columns: [converged ? first : { ...first, name: "guess", error: signed }],
  };
}

function notFound({ loss, equations, unknowns, seconds }, phi) {
  const exact = equations < 1.05 * unknowns;
  return {
    title: "Not found",
    lines: [
      `The search stopped at a loss of ${small(loss)} after ${seconds.toFixed(0)} s. ` +
        (exact
          ? "There are barely as many equations as unknowns; the pictures may or may not be determined."
          : "There are more equations than unknowns; what is missing is a good enough search. Recover " +
            "again starts elsewhere; more parameters make it easier."),
    ],
    columns: [{ ...found, name: "guess", error: phi.parity === "mixed" ? signed : upToSign }],
  };
}
