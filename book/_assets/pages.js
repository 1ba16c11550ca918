// Names for the buttons that sphinx-copybutton adds, which hold a picture alone; and of formulas only what is wider than
// its place is a stop of the tab key, so that the arrows can scroll it. The theme sees to code and outputs.
addEventListener("load", async () => {
  document.querySelectorAll("button.copybtn").forEach((button) => button.setAttribute("aria-label", "Copy this code"));
  await window.MathJax?.startup?.promise;
  const room = () => {
    for (const formula of document.querySelectorAll(".bd-article mjx-container:not([display])")) {
      const wide = formula.getBoundingClientRect().width > formula.closest("p, li, td, dd, figcaption, div")?.clientWidth;
      formula.classList.toggle("scrolls", wide);
    }
    for (const box of document.querySelectorAll(".bd-article :is(div.math, mjx-container.scrolls)")) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  room();
  addEventListener("resize", room);
});

// A preview beside a link goes away on request (WCAG 1.4.13).
addEventListener("keydown", (event) => event.key === "Escape" && window.tippy?.hideAll());

// On paper proofs and hints are open, as the solutions are.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details.sd-dropdown:not([open])")) {
    folded.open = true;
    folded.dataset.printing = "";
  }
});
addEventListener("afterprint", () => {
  for (const folded of document.querySelectorAll("details[data-printing]")) {
    folded.open = false;
    delete folded.dataset.printing;
  }
});
