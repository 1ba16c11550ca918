// Shows steps at a pace that an eye can follow: a search of a fifth of a second is over before it is seen.

const PACE = 45; // milliseconds a frame
const LONGEST = 40; // frames that may wait; beyond that, steps share one

/** `show` gets arrays of steps, `done` the result once all are shown. Readers who want no motion get them at
 *  once. */
export function player(show, done) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let waiting = [], result = null, stopped = false, last = -Infinity;

  function frame(now) {
    if (stopped) return;
    if (still || now - last >= PACE) {
      const steps = waiting.splice(0, still ? waiting.length : Math.ceil(waiting.length / LONGEST));
      if (steps.length) show(steps);
      else if (result) return done(result);
      last = now;
    }
    requestAnimationFrame(frame);
  }
  requestAnimationFrame(frame);

  return {
    step: (step) => waiting.push(step),
    end: (outcome) => (result = outcome),
    stop: () => (stopped = true),
  };
}
