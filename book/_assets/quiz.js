// Counts first answers of a page's questions, and closes them all again. The questions work without it.
"use strict";

const questions = [...document.querySelectorAll(".quiz")];
const first = new Map(); // question -> was its first answer right?

const tally = document.createElement("div");
tally.className = "quiz-tally";
tally.innerHTML = '<p role="status"></p><button type="button" hidden>Start over</button>';
const [words, again] = tally.children;

function say() {
  const right = [...first.values()].filter(Boolean).length;
  words.textContent = first.size
    ? `${first.size} of ${questions.length} answered, ${right} right at the first try.`
    : "";
  again.hidden = first.size === 0;
}

for (const question of questions) {
  for (const choice of question.querySelectorAll(".quiz-choice")) {
    choice.addEventListener("toggle", () => {
      if (!choice.open || first.has(question)) return;
      first.set(question, choice.dataset.right === "true");
      say();
    });
  }
}

again.addEventListener("click", () => {
  for (const choice of document.querySelectorAll(".quiz-choice[open]")) choice.open = false;
  first.clear();
  say();
  questions[0].querySelector("summary").focus();
});
questions.at(-1)?.after(tally);
say();
