"""Chromium, where there is one: it prints the handout and looks whether every slide fits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
NAMES = ("chromium", "chromium-browser", "google-chrome")
WHAT_IS_OUT = """() => {
  const slide = document.querySelector('.page.present');
  const zoom = slide.getBoundingClientRect().width / 1280;
  const inside = [...slide.querySelectorAll('.body *')];
  const low = inside.filter(e => e.getClientRects().length && !e.closest('mjx-container'));
  const bottom = Math.max(0, ...low.map(e => e.getBoundingClientRect().bottom));
  const right = Math.max(0, ...low.map(e => e.getBoundingClientRect().right));
  const cut = [...slide.querySelectorAll('pre, .formula, table, figure')].some(e => e.scrollWidth > e.clientWidth + 1);
  return { bottom: bottom / zoom, right: right / zoom, cut, title: slide.querySelector('h2').textContent };
}"""


def find() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def page(**options) -> Iterator:
    """A tab that reaches no network: what is not on disk is refused."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=FLAGS)
        try:
            tab = browser.new_context(offline=True, **options).new_page()
            tab.complaints = []
            tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
            tab.on("console", lambda m: tab.complaints.append(m.text) if m.type == "error" else None)
            yield tab
        finally:
            browser.close()


def open_deck(tab, path: Path) -> int:
    """Open a deck and wait until it is laid out; how many slides it has."""
    tab.goto(path.resolve().as_uri())
    tab.wait_for_selector("html[data-ready]", state="attached", timeout=120_000)
    return tab.evaluate("() => Reveal.getTotalSlides()")


def overflowing(tab) -> list[str]:
    """The slides of the open deck on which something lies outside, or is cut off."""
    found = []
    for k in range(tab.evaluate("() => Reveal.getTotalSlides()")):
        tab.evaluate("k => Reveal.slide(...Object.values(Reveal.getIndices(Reveal.getSlides()[k])))", k)
        out = tab.evaluate(WHAT_IS_OUT)
        if out["bottom"] > 720 or out["right"] > 1280 or out["cut"]:
            found.append(f"{k + 1} {out['title']}: {out}")
    return found
