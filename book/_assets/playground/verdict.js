// What an attack has shown, in words, and what to lay beside the drawings.

export const FOUND = 1e-2; // relative error below which a picture counts as recovered

export const whole = (number) => number.toLocaleString("en");

/** 3·10⁻²⁹, or 0.13. */
export function small(number) {
  if (number === 0 || (number >= 0.01 && number < 100)) return String(Number(number.toPrecision(2)));
  const [mantissa, exponent] = number.toExponential(0).split("e");
  const raised = [...exponent.replace("+", "")].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");
  return `${mantissa}·10${raised}`;
}

const found = { name: "found", X: (result) => result.X };
const signed = ({ error }) => `error ${small(error)}`;
const upToSign = ({ errorUpToSign }) => `error up to sign ${small(errorUpToSign)}`;

/** {title, lines, columns} for a result and its pairs with the originals; a column is laid beside the
 *  drawings. */
export function verdict(result, pairs, phi) {
  if (!result.determined) return notThere(result);
  if (!result.converged) return notFound(result, phi);
  const odd = !result.signIdentifiable;
  const errors = pairs.map((pair) => (odd ? pair.errorUpToSign : pair.error));
  const back = errors.filter((error) => error < FOUND).length;
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
  if (odd) {
    return {
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
