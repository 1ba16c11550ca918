// The defender: what may be done to θ before it is published. She hides numbers, rounds them, or adds noise; what she
// did, and how large it is, is public, as a mechanism is. Kept apart from the attack, which gets the result.
import { generator } from "./random.js";

/** θ after a defence {share, digits, noise}: keep that share of the numbers, add noise of that share of their root
 *  mean square, round each to so many significant digits (0: all). Returns {theta, kept, noise}: the numbers that
 *  stay, their places (null for all), and the standard deviation of what was done to one. */
export function defend(theta, { share = 1, digits = 0, noise = 0 }, seed) {
  const random = generator("defence", seed);
  const kept = share < 1 ? choose(theta.length, Math.round(share * theta.length), random) : null;
  const stays = kept ? Float64Array.from(kept, (j) => theta[j]) : Float64Array.from(theta);
  const rms = Math.sqrt(stays.reduce((sum, value) => sum + value * value, 0) / stays.length);
  const sigma = noise * rms;
  if (sigma) random.normals(stays.length).forEach((z, j) => (stays[j] += sigma * z));
  let rounding = 0; // variance: a twelfth of the square of a number's last place
  if (digits) {
    for (let j = 0; j < stays.length; j++) {
      if (!stays[j]) continue;
      const place = 10 ** (Math.floor(Math.log10(Math.abs(stays[j]))) - digits + 1);
      stays[j] = Math.round(stays[j] / place) * place;
      rounding += place ** 2 / 12 / stays.length;
    }
  }
  return { theta: stays, kept, noise: Math.sqrt(sigma ** 2 + rounding) };
}

/** `count` of the numbers 0 … total − 1, in order: the first places of a shuffle. */
function choose(total, count, random) {
  const places = Array.from({ length: total }, (_, j) => j);
  for (let j = 0; j < count; j++) {
    const other = j + Math.floor(random.uniform() * (total - j));
    [places[j], places[other]] = [places[other], places[j]];
  }
  return places.slice(0, count).sort((a, b) => a - b);
}
