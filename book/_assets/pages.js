// Names for the buttons that sphinx-copybutton adds, which hold a picture alone.
addEventListener("load", () => {
  for (const button of document.querySelectorAll("button.copybtn")) button.setAttribute("aria-label", "Copy this code");
});

// Of formulas only what is wider than its place is a stop of the tab key, so that the arrows can scroll it; none within
// an answer of a quiz, which is a control itself. The theme sees to code and outputs. (In a block: pages have scripts of
// their own, whose names these must not take.)
{
  const room = () => {
    const formulas = [...document.querySelectorAll(".bd-article mjx-container:not([display])")];
    const wide = formulas.map((one) => one.scrollWidth > one.closest("p, li, td, dd, figcaption, div")?.clientWidth);
    formulas.forEach((one, k) => one.classList.toggle("scrolls", wide[k]));
    const boxes = [...document.querySelectorAll(".bd-article :is(div.math, mjx-container)")];
    const stop = boxes.map((one) => one.scrollWidth > one.clientWidth + 1 && !one.closest("summary"));
    boxes.forEach((one, k) => {
      if (stop[k] && one.matches("div.math, .scrolls")) one.tabIndex = 0;
      else one.removeAttribute("tabindex");
    });
  };
  room();
  addEventListener("resize", room);
}

// A figure drawn for a desk has small letters on a phone: a tap shows it by itself, where two fingers enlarge it.
if (matchMedia("(max-width: 576px)").matches) {
  for (const image of document.querySelectorAll(".bd-article :is(figure, .cell_output) img")) {
    if (image.closest("a, .interactive-figure")) continue;
    const link = Object.assign(document.createElement("a"), { href: image.src, className: "enlarge" });
    image.replaceWith(link);
    link.append(image);
  }
}

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
