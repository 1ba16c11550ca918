// Runs an attack beside the page: in a worker, or, where a browser has none for us (a page opened from disk),
// in short turns on the page's own thread.
import { attack } from "./attack.js";

const TURN = 30; // milliseconds before the page has its turn again

/** Starts; onStep gets every step, onResult the result. Returns {stop, inWorker}. */
export function recover(task, workerAddress, { onStep, onResult }) {
  const inTurns = () => takeTurns(attack(task), onStep, onResult);
  let worker;
  try {
    worker = new Worker(workerAddress, { type: "module" });
  } catch {
    return { stop: inTurns(), inWorker: false };
  }
  let stop = () => worker.terminate();
  worker.onmessage = ({ data: { step, result } }) => {
    if (step) return onStep(step);
    worker.terminate();
    onResult(result);
  };
  worker.onerror = (event) => { // an old browser: no modules in workers
    event.preventDefault();
    worker.terminate();
    stop = inTurns();
  };
  worker.postMessage(task);
  return { stop: () => stop(), inWorker: true };
}

function takeTurns(steps, onStep, onResult) {
  let timer;
  const turn = () => {
    const end = performance.now() + TURN;
    while (performance.now() < end) {
      const { value, done } = steps.next();
      if (done) return onResult(value);
      if (value) onStep(value);
    }
    timer = setTimeout(turn);
  };
  timer = setTimeout(turn);
  return () => clearTimeout(timer);
}
