"""The built site in a browser, served as GitHub Pages serves it and with no other network: mathematics, weight, phone
width, menu, search, images, interactive figures, and axe's rules (WCAG 2.2, A and AA) in light and dark."""

import functools
import gzip
import http.server
import mimetypes
import os
import shutil
import struct
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from xml.etree import ElementTree

import pytest
from test_book import ROOT, SLUG, toc_entries

SITE = Path(os.environ.get("SITE", ROOT / "_build" / "html")).resolve()
OWNER, NAME = (os.environ.get("GITHUB_REPOSITORY") or SLUG).split("/")  # as the build takes it
HOST = f"{OWNER.lower()}.github.io"
BASE = "" if NAME.lower() == HOST else f"/{NAME}"  # Pages serves a project in a folder of its owner's host
ADDRESS = f"https://{HOST}{BASE}/"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PAGES = toc_entries()
GENERATED = [
    name for name in ("search", "404", "genindex", "py-modindex", "prf-prf") if (SITE / f"{name}.html").is_file()
]
WITH_FIGURES = [
    name
    for name in PAGES
    if (path := SITE / f"{name}.html").is_file() and "interactive-figure" in path.read_text(encoding="utf-8")
]
FETCHED = "() => performance.getEntries().filter(e => e.name.endsWith('/plotly.min.js')).length"
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
HEAVIEST = 1_500_000  # bytes over the wire, at first sight of a page

# What axe finds and nobody here can mend: {rule: why}. Nothing, so far.
NOT_OURS = {}
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
CONTRAST = ["color-contrast", "link-in-text-block"]  # what may differ from light to dark
FINDINGS = """async ([options, known]) => (await axe.run(options.root ?? document, options)).violations
  .filter(v => !(v.id in known))
  .flatMap(v => v.nodes.map(n => `${v.id}: ${n.target.join(" ")} ${n.html.slice(0, 160)}`))"""
# For speed: a formula is hidden from screen readers (its MathML is not) and drawn in the text's own colour, and of
# tokens in code that look alike, in inputs and in outputs, one is enough.
THIN = """() => {
  document.querySelectorAll("mjx-math").forEach((formula) => formula.remove());
  const seen = new Set();
  for (const token of document.querySelectorAll(".highlight span[class]")) {
    const look = `${token.className} ${token.closest(".cell_output, .cell_input, .admonition")?.className}`;
    if (seen.has(look)) token.replaceWith(token.textContent);
    seen.add(look);
  }
}"""
WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .reduce((sum, entry) => sum + entry.transferSize, 0)"""

if os.environ.get("CI") != "true":
    if BROWSER is None:
        pytest.skip("no Chromium on this machine", allow_module_level=True)
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: make book", allow_module_level=True)


@functools.cache
def as_sent(path):
    """Content type and body, compressed where Pages compresses."""
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    packed = kind.startswith("text/") or kind.endswith(("javascript", "json", "xml"))
    return kind, packed, gzip.compress(path.read_bytes(), 6) if packed else path.read_bytes()


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        file = SITE / path.removeprefix(f"{BASE}/")
        file = file / "index.html" if file.is_dir() else file
        found = path.startswith(f"{BASE}/") and file.is_file()
        kind, packed, body = as_sent(file if found else SITE / "404.html")
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}{BASE}"
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


def width(page):
    return page.evaluate("() => document.scrollingElement.scrollWidth")


def inaccessible(page, root=None, rules=None):
    """What axe complains of, by all of WCAG's rules or by some; colours settle first."""
    from axe_playwright_python.sync_playwright import Axe

    if not page.evaluate("() => Boolean(window.axe)"):
        page.add_style_tag(content="* { transition: none !important }")
        page.evaluate(Axe().axe_script)
    chosen = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": WCAG}
    options = {"runOnly": chosen, "resultTypes": ["violations"], "preload": False, "root": root}
    return page.evaluate(FINDINGS, [options, NOT_OURS])


@pytest.mark.parametrize("name", PAGES + GENERATED)
def test_page_is_whole_and_light_and_for_everyone(open_page, name):
    page = open_page(name, viewport=DESK)
    assert page.complaints == []
    if name not in WITH_FIGURES:
        assert page.evaluate(FETCHED) == 0
        assert page.evaluate(WEIGHT) <= HEAVIEST
    formulas = page.locator(".math").count()
    assert page.locator(".math mjx-container").count() >= formulas, "some mathematics was not rendered"
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0

    assert page.locator("img:not([alt]), .bd-article img[alt='']").count() == 0
    eager = page.locator(".bd-article img:not([loading=lazy])").evaluate_all(
        "images => images.filter(i => !i.closest('.interactive-figure')).length"
    )
    assert eager <= 1, "images below the first load when the reader comes near"
    page.evaluate("() => document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    page.wait_for_function("() => [...document.images].every(i => i.complete)")
    assert page.evaluate("() => [...document.images].filter(i => !i.naturalWidth).map(i => i.src)") == []

    page.set_viewport_size(PHONE)
    assert width(page) <= PHONE["width"], f"the page is {width(page)} px wide on a phone"
    page.set_viewport_size(DESK)

    page.evaluate(THIN)
    assert inaccessible(page) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    assert inaccessible(page, rules=CONTRAST) == []


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
    assert width(page) <= PHONE["width"]
    assert page.evaluate(FETCHED) == 1
    assert inaccessible(page, root=".interactive-figure") == []


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
    assert inaccessible(page) == []
    link.click()
    page.wait_for_url("**/notation.html")


def test_search_finds(open_page):
    page = open_page("index")
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input").fill("sign ambiguity")
    assert inaccessible(page) == []
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    page.locator("#search-results li a[href^='signs/sign-ambiguity.html']").first.wait_for()
    page.locator("#search-results p.context").first.wait_for()
    assert page.complaints == [] and inaccessible(page) == []


def test_search_finds_in_a_copy_on_disk(browser):
    page = browser.new_page()
    page.goto(f"{(SITE / 'search.html').as_uri()}?q=Hermite")
    page.locator("#search-results li a[href^='signs/hermite-expansions.html']").first.wait_for()
    page.close()


def test_missing_pages_lead_back(site, browser):
    page = browser.new_page()
    failed = []
    page.on("response", lambda r: failed.append(r.url) if r.status != 200 else None)
    address = f"{site}/signs/no/such-page.html"
    assert page.goto(address).status == 404 and failed == [address]
    assert page.locator(".bd-article h1").inner_text().startswith("There is no such page")
    assert page.locator(".bd-sidebar-primary a", has_text="Notation").evaluate("a => a.href") == f"{site}/notation.html"
    assert page.locator("a[href$='#main-content']").first.evaluate("a => a.href") == f"{address}#main-content"
    page.get_by_role("link", name="the front page").click()
    assert page.url == f"{site}/" and page.locator(".bd-article h1").inner_text().startswith("The Law")
    page.close()


class Outline(HTMLParser):
    """The addresses a page leads to, the names it can be reached by, and its meta elements."""

    def __init__(self, path):
        super().__init__()
        self.links, self.names, self.meta = set(), {""}, {}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names |= {given[key] for key in ("id", "name") if given.get(key)}
        self.links |= {given[key] for key in ("href", "src") if given.get(key)}
        if tag == "meta":
            self.meta[given.get("property") or given.get("name")] = given.get("content")


@functools.cache
def outlines():
    pages = [path for path in SITE.rglob("*.html") if not {"_static", "_sources"} & set(path.parts)]
    return {path.relative_to(SITE).as_posix(): Outline(path) for path in pages}


def test_links_within_the_site_lead_somewhere():
    broken = []
    for name, outline in outlines().items():
        for link in outline.links:
            target, anchor = urldefrag(urljoin(f"{ADDRESS}{'' if name == '404.html' else name}", link))
            if not target.startswith(ADDRESS):
                continue
            place = unquote(urlsplit(target).path).removeprefix(f"{BASE}/") or "index.html"
            known = outlines().get(place)
            if not (SITE / place).is_file() or known and unquote(anchor) not in known.names:
                broken.append(f"{name}: {link}")
    assert broken == []


def test_pages_can_be_shared_and_found():
    for name in PAGES:
        meta = outlines()[f"{name}.html"].meta
        assert meta["og:url"] == (ADDRESS if name == "index" else f"{ADDRESS}{name}.html")
        assert meta["og:title"].endswith("The Law of Data Reconstruction") and meta["og:image:alt"]
        assert meta["og:image"] == f"{ADDRESS}_static/social.png" and meta["twitter:card"] == "summary_large_image"
        assert meta["description"] == meta["og:description"] and 20 < len(meta["description"]) <= 200
        assert not set("$\\{}\ufffd") & set(meta["description"] + meta["og:title"])
    assert len({outlines()[f"{name}.html"].meta["description"] for name in PAGES}) == len(PAGES)
    png = (SITE / "_static" / "social.png").read_bytes()
    assert png.startswith(b"\x89PNG") and struct.unpack(">II", png[16:24]) == (1200, 630)
    tree = ElementTree.parse(SITE / "sitemap.xml")
    listed = [place.text for place in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")]
    assert sorted(listed) == sorted(outlines()[f"{name}.html"].meta["og:url"] for name in PAGES)
    assert (SITE / urlsplit(next(a for a in outlines()["index.html"].links if a.endswith("logo.svg"))).path).is_file()


def test_make_serves_the_site():
    said = subprocess.run(["make", "-n", "serve", "PORT=8123"], cwd=ROOT, capture_output=True, text=True)
    assert "http.server 8123" in said.stdout and "_build/html" in said.stdout
