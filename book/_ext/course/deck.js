// Lays a chapter's blocks out on slides of 1280 by 720, then hands them to reveal.js.
"use strict";

const BOTTOM = 720 - 46; // above the number of the slide
const SMALLEST = 0.55; // no block is shrunk below this
const LARGEST = 1.4; // and no slide enlarged beyond,
const LARGEST_WORDS = 1.6; // nor one that holds a few sentences alone
const LOWEST = 290; // pixels of a figure's height that make room for the words above it
const HALF = BOTTOM / 2; // what ends above it leaves half a slide empty
const FEW = BOTTOM * 0.32; // what ends above it is a sentence or two

window.MathJax = {
  tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]] },
  options: { enableMenu: false },
  startup: { typeset: false },
};

const script = (source) =>
  new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement("script"), { src: source, onload: resolve, onerror: reject });
    document.head.append(element);
  });

function newPage(stage, title, first) {
  const page = document.createElement("section");
  page.className = first ? "page first" : "page";
  page.innerHTML = '<h2></h2><div class="body"></div>';
  page.querySelector("h2").innerHTML = title;
  stage.append(page);
  return page;
}

const body = (page) => page.querySelector(".body");
const tooWide = (element) =>
  [element, ...element.querySelectorAll("pre, .formula, table")].some((part) => part.scrollWidth > part.clientWidth + 1);

function bottom(page) {
  const low = body(page).lastElementChild;
  return low ? low.getBoundingClientRect().bottom - page.getBoundingClientRect().top : 0;
}

const fits = (page) => bottom(page) <= BOTTOM && !tooWide(page);

/** Move the last rows of a table, or items of a list, to a copy of it; null if it has none to spare. */
function trim(page, element) {
  const items = (one) => (one.matches("table") ? one.tBodies[0] : one);
  if (!element.matches("table, ul, ol") || items(element).childElementCount < 2) return null;
  const copy = element.cloneNode(true);
  items(copy).replaceChildren();
  while (!fits(page) && items(element).childElementCount > 1) items(copy).prepend(items(element).lastElementChild);
  if (element.matches("ol")) copy.start = (element.start || 1) + element.childElementCount;
  return copy;
}

/** Move what does not fit from the end of `block` to a copy of it; null if that cannot be done. */
function split(page, block) {
  const rest = block.cloneNode(false);
  delete rest.dataset.page;
  while (!fits(page) && block.childElementCount > 1) rest.prepend(block.lastElementChild);
  if (!fits(page)) {
    const copy = trim(page, block.lastElementChild);
    if (copy) rest.prepend(copy);
    return rest.childElementCount ? rest : null;
  }
  const last = rest.firstElementChild;
  if (last?.matches("ul, ol") && last.childElementCount > 1) {
    const head = last.cloneNode(false);
    block.append(head);
    while (last.childElementCount > 1) {
      head.append(last.firstElementChild);
      if (!fits(page)) {
        last.prepend(head.lastElementChild);
        break;
      }
    }
    if (head.childElementCount === 0) head.remove();
    else if (last.matches("ol")) last.start = (head.start || 1) + head.childElementCount;
  }
  return rest.childElementCount ? rest : null;
}

function shrink(page, block, smallest = SMALLEST) {
  for (let zoom = 0.95; !fits(page) && zoom >= smallest; zoom -= 0.05) block.style.zoom = zoom;
  return fits(page);
}

/** A figure, or a computation, a little smaller, so that a sentence or two above it need no slide of their own. */
function squeeze(page, block) {
  if (!block.matches(".figure")) return block.matches(".computation") && shrink(page, block, 0.85);
  for (let height = 410; !fits(page) && height >= LOWEST; height -= 20) block.style.setProperty("--height", `${height}px`);
  return fits(page);
}

/** More of the same, for a sentence or two that would stand alone: type stays as large as a proof's, or a computation's. */
function yieldRoom(page, block) {
  if (block.matches(".computation")) return shrink(page, block, 0.75);
  return block.matches(".statement") && shrink(page, block, 0.9);
}

const blocks = (page) => [...body(page).children];
const WORDS = ".prose, .small, .subheading, .computation:not(:has(> :not(.output)))"; // or what a program printed
const words = (page) => blocks(page).every((one) => one.matches(WORDS));
const told = (page) => words(page) && bottom(page) > 0.7 * HALF; // enlarged, its words fill the slide

/** Blocks, or items of a list that was split, from the end of one page to the next, where that stands half empty. */
function balance(before, page) {
  const first = blocks(page)[0];
  if (!first || "page" in first.dataset || !blocks(before).length) return;
  const [from, to] = [blocks(before).at(-1).lastElementChild, first.firstElementChild];
  if ("rest" in first.dataset) {
    if (!from?.matches("ul, ol") || from.tagName !== to?.tagName) return;
    while (bottom(page) < HALF && from.childElementCount > 2 && bottom(page) < bottom(before)) {
      to.prepend(from.lastElementChild);
      if (to.matches("ol")) to.start -= 1;
    }
    return;
  }
  while (bottom(page) < HALF && blocks(before).length > 1) {
    const heading = blocks(before).at(-2);
    const moved = blocks(before).slice(heading.matches(".closing") ? -2 : -1);
    if (moved.length === blocks(before).length || (moved.length === 1 && heading.matches(".subheading"))) break;
    body(page).prepend(...moved);
    if (fits(page) && (bottom(page) <= bottom(before) + HALF / 2 || told(before))) continue;
    body(before).append(...moved);
    break;
  }
  if (bottom(page) < HALF && blocks(page)[0].matches(".closing")) share(before, page);
}

/** The last items of a chapter's summary, to the page on which what ends the chapter would stand alone. */
function share(before, page) {
  const summary = blocks(before).at(-1);
  const from = summary.lastElementChild;
  if (!from?.matches("ul, ol")) return;
  const [rest, to] = [summary.cloneNode(false), from.cloneNode(false)];
  rest.append(to);
  body(page).prepend(rest);
  while (bottom(page) < HALF && from.childElementCount > 2 && bottom(page) < bottom(before)) {
    to.prepend(from.lastElementChild);
    if (to.matches("ol")) to.start = (from.start || 1) + from.childElementCount;
  }
  if (!to.childElementCount) rest.remove();
}

/** Two pages as one, with smaller figures and computations, where one of them stands half empty; whether it could be. */
function join(before, page) {
  const moved = blocks(page);
  const closed = blocks(before).some((one) => one.matches(".exercise, .cover"));
  const apart = closed || moved.some((one) => "page" in one.dataset);
  const least = Math.min(bottom(before), bottom(page));
  if (apart || !moved.length || !blocks(before).length || least > HALF) return false;
  const few = least <= FEW;
  const both = [...blocks(before), ...moved];
  const styles = both.map((one) => one.getAttribute("style"));
  body(before).append(...moved);
  for (const block of both) if (!fits(before)) squeeze(before, block);
  if (few) for (const block of both) if (!fits(before)) yieldRoom(before, block);
  if (fits(before)) {
    for (const note of page.querySelectorAll(".notes")) before.append(note);
    page.remove();
    return true;
  }
  body(page).append(...moved);
  both.forEach((one, k) => (styles[k] === null ? one.removeAttribute("style") : one.setAttribute("style", styles[k])));
  return false;
}

/** Larger type where there is room: a slide is read from the last row. */
function grow(page) {
  const content = body(page);
  for (let zoom = words(page) ? LARGEST_WORDS : LARGEST; zoom > 1; zoom -= 0.08) {
    content.style.zoom = zoom;
    if (fits(page)) return;
  }
  content.style.zoom = "";
}

/** A block on the page, or on as many new pages as it needs; the page to go on with. */
function place(stage, page, block, title) {
  body(page).append(block);
  if (fits(page)) return page;
  if (blocks(page).length > 1) {
    if (block.getBoundingClientRect().top - page.getBoundingClientRect().top < HALF && squeeze(page, block)) return page;
    block.removeAttribute("style");
    const before = blocks(page).at(-2);
    page = newPage(stage, title, false);
    if (before.matches(".subheading")) body(page).append(before);
    body(page).append(block);
    if (fits(page)) return page;
  }
  if (block.matches(".computation, .figure") && shrink(page, block, 0.75)) return page;
  block.style.zoom = "";
  const rest = split(page, block);
  shrink(page, block); // one child alone can be too much
  if (!rest) return page;
  rest.dataset.rest = "";
  return place(stage, newPage(stage, title, false), rest, title);
}

/** One section of the chapter as a column of pages. */
function lay(stage, topic, first) {
  const pages = document.createElement("div");
  stage.append(pages);
  let title = topic.dataset.title;
  let page = newPage(pages, title, first);
  let closed = false;
  for (const block of [...topic.children]) {
    if (block.matches(".notes")) {
      body(page).after(block);
      continue;
    }
    const elsewhere = title !== topic.dataset.title && block.matches(".computation, .figure, .statement");
    if ("page" in block.dataset || closed || elsewhere) {
      title = block.dataset.page || topic.dataset.title;
      const empty = !body(page).childElementCount;
      if (empty) page.querySelector("h2").innerHTML = title;
      else page = newPage(pages, title, false);
    }
    closed = block.matches(".exercise");
    page = place(pages, page, block, title);
    if (block.matches(".closing")) title = block.firstElementChild.innerHTML; // of slides that begin after it
  }
  let all = [...pages.children].filter((one) => body(one).childElementCount || one.querySelector(".notes"));
  const named = (one) => one.querySelector("h2").textContent;
  for (let k = all.length - 1; k > 0; k--) if (named(all[k - 1]) === named(all[k])) join(all[k - 1], all[k]);
  all = all.filter((one) => one.isConnected);
  const closes = (one) => blocks(one)[0]?.matches(".closing");
  for (let k = all.length - 1; k > 0; k--) {
    const alone = closes(all[k]);
    if (alone || named(all[k - 1]) === named(all[k])) balance(all[k - 1], all[k]);
    if (alone && !closes(all[k])) all[k].querySelector("h2").innerHTML = all[k - 1].querySelector("h2").innerHTML;
  }
  for (const one of all) {
    if (closes(one)) {
      one.querySelector("h2").innerHTML = blocks(one)[0].firstElementChild.innerHTML;
      blocks(one)[0].remove();
    }
  }
  for (const one of all) {
    grow(one);
    one.dataset.fits = fits(one);
    one.dataset.filled = (bottom(one) / BOTTOM).toFixed(2);
    const same = all.filter((other) => named(other) === named(one));
    one.place = [same.indexOf(one) + 1, same.length];
  }
  for (const one of all) {
    const [k, of] = one.place;
    if (of > 1 && !first) one.querySelector("h2").insertAdjacentHTML("beforeend", `<span class="of">${k} of ${of}</span>`);
  }
  const column = document.createElement("section");
  column.append(...all);
  return column;
}

async function show() {
  const stage = document.querySelector(".stage");
  stage.classList.add("measuring");
  await script("_deck/mathjax/tex-mml-chtml.js");
  await MathJax.startup.promise;
  await MathJax.typesetPromise([stage]);
  await Promise.all([...stage.querySelectorAll("img")].map((image) => image.decode().catch(() => null)));
  await document.fonts.ready;
  for (const topic of stage.querySelectorAll(".topic")) {
    // titles hold formulas, too: typeset them where they will stand
    const heading = document.createElement("h2");
    heading.innerHTML = topic.dataset.title;
    topic.before(heading);
    await MathJax.typesetPromise([heading]);
    topic.dataset.title = heading.innerHTML;
    heading.remove();
  }
  const topics = [...stage.querySelectorAll(".topic")];
  const slides = topics.map((topic, k) => lay(stage, topic, k === 0));
  document.querySelector(".slides").append(...slides);
  stage.remove();
  await Reveal.initialize({
    width: 1280,
    height: 720,
    margin: 0,
    center: false,
    hash: true,
    slideNumber: "c/t",
    transition: "none",
    plugins: [RevealNotes],
  });
  document.documentElement.dataset.ready = "yes";
}

show();
