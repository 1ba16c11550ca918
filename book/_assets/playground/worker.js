// The attack in a thread of its own, which shares no memory with the page: its one message is the task.
import { attack } from "./attack.js";

addEventListener("message", ({ data: task }) => {
  const steps = attack(task);
  for (;;) {
    const { value, done } = steps.next();
    if (done) return postMessage({ result: value });
    if (value) postMessage({ step: value });
  }
});
