"""The built site in a browser, without a network: mathematics, phone width, menu, images, interactive figures."""

import functools
import http.server
import os
import shutil
import threading

import pytest
from test_book import ROOT, toc_entries

SITE = ROOT / "_build" / "html"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PAGES = toc_entries()
WITH_FIGURES = [
    name
    for name in PAGES
    if (path := SITE / f"{name}.html").is_file() and "interactive-figure" in path.read_text(encoding="utf-8")
]
FETCHED = "() => performance.getEntries().filter(e => e.name.endsWith('/plotly.min.js')).length"
PHONE = {"width": 390, "height": 844}

if os.environ.get("CI") != "true":
    if BROWSER is None:
        pytest.skip("no Chromium on this machine", allow_module_level=True)
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: make book", allow_module_level=True)


@pytest.fixture(scope="module")
def site():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(site, browser):
    """Open a page in a fresh tab that reaches only the site; `.complaints` collects its console errors."""
    contexts = []

    def open_page(name, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        context.route("**/*", lambda r: r.continue_() if r.request.url.startswith(site) else r.abort())
        page = context.new_page()
        page.complaints = []
        page.on("pageerror", lambda e: page.complaints.append(str(e)))
        page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
        page.goto(f"{site}/{name}.html", wait_until="load")
        page.evaluate("() => window.MathJax?.startup?.promise")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole_without_a_network(open_page, name):
    page = open_page(name)
    assert page.complaints == []
    formulas = page.locator(".math").count()
    assert page.locator(".math mjx-container").count() >= formulas, "some mathematics was not rendered"
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert page.locator("img:not([alt]), .bd-article img[alt='']").count() == 0
    page.evaluate("() => document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    page.wait_for_function("() => [...document.images].every(i => i.complete)")
    assert page.evaluate("() => [...document.images].filter(i => !i.naturalWidth).map(i => i.src)") == []
    assert name in WITH_FIGURES or page.evaluate(FETCHED) == 0


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(open_page, name):
    page = open_page(name, viewport=PHONE)
    width = page.evaluate("() => document.scrollingElement.scrollWidth")
    assert width <= PHONE["width"], f"the page is {width} px wide"


@pytest.mark.parametrize("name", WITH_FIGURES)
def test_figures_answer_without_a_network(open_page, name):
    page = open_page(name, viewport=PHONE)
    for box in page.locator(".interactive-figure").all():
        assert box.locator("img").count() == 1
        box.scroll_into_view_if_needed()
        box.locator(".main-svg").first.wait_for(state="visible")
        assert not box.locator("img").is_visible()
        assert box.locator(".js-plotly-plot").get_attribute("aria-label") == box.locator("img").get_attribute("alt")
        sizes = "svg => [...svg.querySelectorAll('text')].map(t => parseFloat(getComputedStyle(t).fontSize))"
        assert min(box.locator(".main-svg").first.evaluate(sizes)) >= 12
        move_controls(page, box)
    assert page.complaints == []
    assert page.evaluate("() => document.scrollingElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate(FETCHED) == 1


def move_controls(page, box):
    """Every slider and menu, by the keyboard alone, changes what plotly draws."""
    state = "plot => JSON.stringify(plot._fullData.map(t => [t.visible, t.opacity, t.name, t.x, t.y, t.z]))"
    plot = box.locator(".js-plotly-plot")
    for control in box.locator("input, select").all():
        before = plot.evaluate(state)
        at_end = control.evaluate("c => Number(c.value) === Number(c.max) || c.selectedIndex === c.length - 1")
        control.focus()
        page.keyboard.press("ArrowUp" if control.evaluate("c => c.tagName") == "SELECT" and at_end else "ArrowDown")
        if plot.evaluate(state) == before:  # a slider at its lowest
            page.keyboard.press("ArrowRight")
        page.wait_for_function(f"([plot, before]) => ({state})(plot) !== before", arg=[plot.element_handle(), before])
        assert control.evaluate("c => Boolean(c.labels[0].textContent.trim())")


def test_figures_without_javascript_are_pictures(open_page):
    assert WITH_FIGURES, "the book has interactive figures"
    page = open_page(WITH_FIGURES[0], java_script_enabled=False)
    picture = page.locator(".interactive-figure img").first
    picture.scroll_into_view_if_needed()
    assert picture.is_visible() and picture.bounding_box()["height"] > 100


def test_menu_opens_on_a_phone(open_page):
    page = open_page("index", viewport=PHONE)
    link = page.locator(".bd-sidebar-primary a, dialog a").filter(has_text="Notation").first
    assert not link.is_visible()
    page.locator("button.primary-toggle").first.click()
    link.wait_for(state="visible")
    link.click()
    page.wait_for_url("**/notation.html")
