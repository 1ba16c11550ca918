"""The built site in a browser, served as GitHub Pages serves it and with no other network: mathematics, weight, phone
width, menu, search, images, interactive figures, and axe's rules (WCAG 2.2, A and AA) in light and dark."""

import functools
import io
import re
import struct
import subprocess
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from xml.etree import ElementTree

import pytest
from browsing import ADDRESS, BASE, DESK, PHONE, SITE, inaccessible, new_page, skip_unless_there_is_a_site, width
from helpers import ROOT, toc_entries
from PIL import Image
from playwright.sync_api import expect

skip_unless_there_is_a_site()

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
HEAVIEST = 1_500_000  # bytes over the wire, at first sight of a page

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
REACHED = """() => [...document.querySelectorAll(
    ".bd-article :is(pre, .cell_output > .output, .pst-scrollable-table-container)")]
  .every((box) => box.scrollWidth <= box.clientWidth || box.tabIndex === 0)"""  # the theme looks a while after a resize
BESIDE = """codes => codes.filter(c => c.getClientRects().length && c.getBoundingClientRect().right
  > c.closest("p").getBoundingClientRect().right + 1).map(c => c.textContent)"""
CUT_FORMULAS = """() => [...document.querySelectorAll(".bd-article :is(div.math, div.math mjx-container)")]
  .filter(box => box.clientWidth && box.scrollWidth > box.clientWidth + 1)
  .map(box => box.closest("div.math").dataset.tex)"""
SCROLLED = """() => {
  const folded = [...document.querySelectorAll(".bd-article details:not([open])")];
  folded.forEach((one) => (one.open = true));
  dispatchEvent(new Event("resize"));
  const boxes = [...document.querySelectorAll(
    ".bd-article :is(div.math, div.math mjx-container, .scrolls, table, .pst-scrollable-table-container)")];
  const found = boxes.filter((box) => !box.closest("#playground, #calculator"))
    .filter((box) => box.clientWidth && (box.matches(".scrolls") || box.scrollWidth > box.clientWidth + 1))
    .map((box) => box.closest(".math")?.dataset.tex ?? box.textContent.slice(0, 80));
  folded.forEach((one) => (one.open = false));
  dispatchEvent(new Event("resize"));
  return found;
}"""  # in what is folded, too
SHOWN = "const shown = e => e.getClientRects().length && e.closest('details:not([open]) > :not(summary)') === null;"
TOUCHED = f"""() => {{ {SHOWN}
  return [...document.querySelectorAll(".bd-article :is(button, summary, select, input)")].filter(shown)
    .filter(e => e.tagName !== "BUTTON" || e.checkVisibility({{ visibilityProperty: true }}))
    .map(e => [e, (e.closest("label") ?? e).getBoundingClientRect()]).filter(([, box]) => box.width && box.height < 40)
    .map(([e]) => e.outerHTML.slice(0, 120)); }}"""  # a box to tick is as large as its label
TOO_SMALL = f"""() => {{ {SHOWN}
  return [...document.querySelectorAll(".bd-article *")].filter(e => shown(e) && !e.closest("mjx-container, .sr-only"))
    .filter(e => [...e.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()))
    .filter(e => parseFloat(getComputedStyle(e).fontSize) * (e.ownerSVGElement ? e.getScreenCTM().a : 1) < 12)
    .map(e => e.outerHTML.slice(0, 120)); }}"""
REPEATED = """() => {
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  return ids.filter((id, k) => ids.indexOf(id) !== k);
}"""
WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .reduce((sum, entry) => sum + entry.transferSize, 0)"""


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

    raw = page.locator(".bd-article p", has_text=re.compile(r"\|\s*:?[-–—]+:?\s*\|"))
    assert raw.count() == 0, "a table that stayed Markdown"

    assert page.locator("img:not([alt]), .bd-article img[alt='']").count() == 0
    eager = page.locator(".bd-article img:not([loading=lazy])").evaluate_all(
        "images => images.filter(i => !i.closest('.interactive-figure')).length"
    )
    assert eager <= 1, "images below the first load when the reader comes near"
    page.evaluate("() => document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    page.wait_for_function("() => [...document.images].every(i => i.complete)")
    assert page.evaluate("() => [...document.images].filter(i => !i.naturalWidth).map(i => i.src)") == []

    tops = page.locator(".cell.setup").evaluate_all("cells => cells.map(c => c.getBoundingClientRect().top)")
    assert len(set(tops)) <= 1, "what sets a notebook up stands in one line above the opening picture"

    assert page.evaluate(REPEATED) == []
    assert page.locator("mjx-container[tabindex]:not(.scrolls)").count() == 0, "a formula is no stop of the tab key"
    assert page.locator("button.copybtn:not([aria-label])").count() == 0

    assert page.evaluate(CUT_FORMULAS) == [], "a formula that has to be scrolled on a desk"
    clipped = "blocks => blocks.filter(b => b.scrollWidth > b.clientWidth + 1).length"
    assert page.locator(".bd-article pre").evaluate_all(clipped) == 0, "code that runs past its box"
    page.set_viewport_size(PHONE)
    assert width(page) <= PHONE["width"], f"the page is {width(page)} px wide on a phone"
    assert page.locator(".bd-article pre").evaluate_all(clipped) == 0, "code that leaves a phone's screen"
    assert page.evaluate(SCROLLED) == [], "a formula or a table that a phone has to scroll"
    assert page.locator(".bd-article p code.literal").evaluate_all(BESIDE) == [], "a call that leaves its paragraph"
    assert page.evaluate(TOUCHED) == [], "too small for a finger"
    assert page.evaluate(TOO_SMALL) == [], "too small to read"
    heights = "buttons => buttons.filter(b => b.offsetParent).map(b => b.getBoundingClientRect().height)"
    assert min(page.locator(".bd-header-article .btn").evaluate_all(heights), default=44) >= 44
    page.set_viewport_size(DESK)
    page.wait_for_function(REACHED)

    page.evaluate(THIN)
    assert inaccessible(page) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    assert inaccessible(page, colours_alone=True) == []


@pytest.mark.parametrize("name", WITH_FIGURES)
def test_figures_answer_without_a_network_and_are_large_enough_on_a_phone(open_page, name):
    page = open_page(name, viewport=PHONE)
    for box in page.locator(".interactive-figure").all():
        assert box.locator("img").count() == 1
        box.scroll_into_view_if_needed()
        box.locator(".main-svg").first.wait_for(state="visible")
        assert not box.locator("img").is_visible()
        assert box.locator(".js-plotly-plot").get_attribute("aria-label") == box.locator("img").get_attribute("alt")
        sizes = "svg => [...svg.querySelectorAll('text')].map(t => parseFloat(getComputedStyle(t).fontSize))"
        assert min(box.locator(".main-svg").first.evaluate(sizes), default=12) >= 12
        fields = [field.bounding_box() for field in box.locator(".nsewdrag").all()]
        assert fields and min(min(one["width"], one["height"]) for one in fields) >= 120, "a field that has shrunk"
        move_controls(page, box)
    assert page.complaints == []
    assert width(page) <= PHONE["width"]
    assert page.evaluate(FETCHED) == 1
    page.evaluate(THIN)
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


def test_search_for_install_leads_to_the_recipe(open_page):
    """And not to the cell that every chapter opens with."""
    page = open_page("search", query="?q=install")
    page.locator("#search-results p.context").first.wait_for()
    found = page.locator("#search-results li a").evaluate_all("links => links.map(a => a.getAttribute('href'))")
    assert any(link.startswith("how-to.html") for link in found[:2]), found
    assert not any(link.startswith(("geometry/", "signs/", "limits/")) for link in found), found
    icon, text = (
        page.locator(".bd-search-container svg, .bd-search-container i").first,
        page.locator(".bd-search-container input"),
    )
    padding = text.evaluate("i => i.getBoundingClientRect().left + parseFloat(getComputedStyle(i).paddingLeft)")
    assert icon.bounding_box()["x"] + icon.bounding_box()["width"] <= padding, "the magnifier lies over the text"


@pytest.mark.parametrize(
    "query, wanted",
    [
        ("ReLU sign", "signs/sign-ambiguity.html"),
        ("noise", "limits/noise.html"),
        ("audit", "networks/your-own-model.html"),
        ("LLM", "limits/open-problems.html"),
        ("Adam", "networks/how-it-was-trained.html"),
        ("LoRA", "networks/adapters.html"),
        ("batch norm", "limits/normalisation-and-dropout.html"),
        ("silent neurons", "networks/two-layer.html"),
        ("my own model", "networks/your-own-model.html"),
        ("checkpoint", "networks/your-own-model.html"),
        ("quantization", "limits/noise.html"),
        ("slides", "teach/guide.html"),
    ],
)
def test_search_puts_the_page_of_that_name_first(open_page, query, wanted):
    page = open_page("search", query=f"?q={query}")
    page.locator("#search-results p.context").first.wait_for()
    found = page.locator("#search-results li a").evaluate_all("links => links.map(a => a.getAttribute('href'))")
    assert any(link.startswith(wanted) for link in found[:3]), found


HEADING = """() => {
  const h1 = document.querySelector(".bd-article h1, .bd-search-container h1");
  const { fontSize, fontWeight, fontFamily } = getComputedStyle(h1);
  return [h1.getBoundingClientRect().x, fontSize, fontWeight, fontFamily];
}"""


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_search_page_is_headed_like_any_other(open_page, viewport):
    headings = [open_page(name, viewport=viewport).evaluate(HEADING) for name in ("search", "glossary")]
    assert headings[0] == headings[1]


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("name, part", [("index", "hero"), ("playground", "playground")])
def test_what_comes_late_has_its_room_kept(site, browser, name, part, viewport):
    page, late = new_page(browser, viewport=viewport), []
    page.route(f"**/playground/{part}.js", lambda route: late.append(route))
    page.goto(f"{site}/{name}.html", wait_until="commit")
    box = page.locator(f"#{part}.coming")
    box.wait_for(state="attached")
    while not late:
        page.wait_for_timeout(50)
    page.wait_for_function("() => document.fonts.ready")
    kept = box.bounding_box()["height"]
    late[0].continue_()
    expect(page.locator(f"#{part}")).to_be_visible()
    assert page.locator(f"#{part}").bounding_box()["height"] == pytest.approx(kept, rel=0.08)
    page.close()


SHIFTS = """() => {
  window.shifts = 0;
  const add = entry => { if (!entry.hadRecentInput) window.shifts += entry.value; };
  new PerformanceObserver(list => list.getEntries().forEach(add)).observe({ type: 'layout-shift', buffered: true });
}"""


WITH_FORMULAS_AT_ONCE = ["geometry/the-law", "geometry/random-features", "signs/parity-lift", "notation", "limits/quiz"]
DRAWN_LATE = ["index", "playground", "limits/risk-calculator"]
ON_A_PHONE = [*DRAWN_LATE, "reconstruction/images-from-weights", "signs/phase-transition", *WITH_FORMULAS_AT_ONCE]
OPENED = [(name, PHONE) for name in ON_A_PHONE] + [(name, DESK) for name in [*DRAWN_LATE, "benchmarks"]]


@pytest.mark.parametrize("name, viewport", OPENED, ids=[f"{name} {view['width']}" for name, view in OPENED])
def test_little_moves_while_a_page_loads(site, browser, name, viewport):
    page = new_page(browser, viewport=viewport, device_scale_factor=2)
    page.add_init_script(f"({SHIFTS})()")
    page.goto(f"{site}/{name}.html", wait_until="load")
    page.wait_for_function("() => document.fonts.ready")
    page.wait_for_function("() => ![...document.querySelectorAll('#calculator, .coming')].some(e => e.hidden)")
    page.wait_for_timeout(500)
    assert page.evaluate("() => window.shifts") < 0.1
    page.close()


UNBROKEN = """() => [...document.querySelectorAll(".bd-article :is(div.proof, div.cell)")].filter(box => {
  for (let e = box; e; e = e.parentElement) if (getComputedStyle(e).breakInside !== "auto") return true;
}).map(box => box.id || box.textContent.trim().slice(0, 60))"""


def test_on_paper_a_chapter_keeps_its_number_and_a_proof_may_go_on_overleaf(open_page):
    page = open_page("geometry/the-law-proved", viewport=DESK)
    assert page.locator(".bd-article div.proof").count() > 10
    page.emulate_media(media="print")
    assert page.locator("h1:visible").all_inner_texts() == ["5. The law, proved"]
    assert page.evaluate(UNBROKEN) == []
    page.add_style_tag(path=ROOT / "book/_ext/course/handout.css")
    assert page.evaluate(UNBROKEN) == []


def test_formulas_need_neither_a_script_nor_mathjax(open_page):
    page = open_page("geometry/the-law", viewport=PHONE, java_script_enabled=False)
    formula = page.locator(".math mjx-container[display=true]").first
    assert formula.bounding_box()["height"] > 20 and width(page) <= PHONE["width"]
    assert not [path for path in SITE.rglob("tex-*.js") if "MathJax" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    "name, target, shown",
    [
        ("geometry/the-law", "#thm-", "Theorem"),
        ("how-to", "glossary.html#term-sphere", "pre-activations"),
        ("geometry/random-features", "bibliography.html#id", "Rahimi"),
    ],
    ids=["theorem", "word", "citation"],
)
def test_a_link_shows_where_it_leads_and_escape_takes_it_away(open_page, name, target, shown):
    page = open_page(name, viewport=DESK)
    page.wait_for_function(f"() => window.tippy && document.querySelector('article a[href*=\"{target}\"]')._tippy")
    link, preview = page.locator(f"article a[href*='{target}']").first, page.locator(".tippy-box")
    link.focus()
    expect(preview).to_contain_text(shown)
    assert preview.locator("mjx-container").count() >= preview.locator(".math").count()
    page.keyboard.press("Escape")
    expect(preview).to_have_count(0)
    page.wait_for_function("() => [...document.images].every(i => i.complete || i.loading === 'lazy')")
    page.wait_for_load_state("networkidle")  # a page that still grows slides from under the pointer
    page.mouse.move(0, 0)
    link.hover()
    expect(preview).to_contain_text(shown)
    assert page.complaints == []


FILTER = "e => getComputedStyle(e).filter"


def corner(page, image):
    """The colour of an image's ground, as it is shown, and of the page."""
    image.scroll_into_view_if_needed()
    shown = Image.open(io.BytesIO(image.screenshot())).convert("RGB")
    page_itself = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    return shown.getpixel((12, 12)), tuple(map(int, re.findall(r"\d+", page_itself)[:3]))


def test_in_the_dark_plots_are_turned_round_and_pictures_are_not(open_page):
    page = open_page("reconstruction/images-from-weights", viewport=DESK, color_scheme="dark")
    plot, picture = page.locator("img.plot").first, page.locator(".cell_output img:not(.plot)").first
    shown, ground = corner(page, plot)
    assert max(abs(a - b) for a, b in zip(shown, ground, strict=True)) <= 8
    assert corner(page, picture)[0] == (255, 255, 255)
    page.emulate_media(media="print")
    assert plot.evaluate(FILTER) == "none"
    page.emulate_media(media="screen", color_scheme="light")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'light'")
    assert plot.evaluate(FILTER) == "none"


CONTRAST_OF = """e => {
  const luminance = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const { color, backgroundColor } = getComputedStyle(e);
  const [a, b] = [luminance(color), luminance(backgroundColor)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_way_back_to_the_top_can_be_read(open_page, scheme):
    page = open_page("geometry/the-law", viewport=DESK, color_scheme=scheme)
    button = page.locator("#pst-back-to-top")  # axe passes by what is hidden until the reader turns back
    assert button.evaluate(CONTRAST_OF) >= 4.5


@pytest.mark.parametrize("name", PAGES)
def test_every_page_asks_to_be_told(name):
    links = [link for link in outlines()[f"{name}.html"].links if link.endswith("/issues/new")]
    assert links and all(link.startswith("https://github.com/") for link in links)


def test_the_faces_on_the_front_page_are_credited(open_page):
    page = open_page("index", viewport=DESK)
    expect(page.locator("figure", has=page.locator("img")).first.locator("figcaption")).to_contain_text("Labeled Faces")


def test_benchmarks_begin_with_three_numbers_and_fold_their_commands(open_page):
    page = open_page("benchmarks", viewport=DESK)
    headline = page.locator("section section").first
    assert len(re.findall(r"\d", headline.inner_text())) >= 3
    assert headline.locator("pre:visible").count() == 0
    shown = page.locator("pre:visible", has_text="python benchmarks/")
    assert shown.count() == 0, "commands are folded"


def test_a_tap_on_a_phone_shows_a_figure_by_itself(open_page):
    page = open_page("geometry/the-law", viewport=PHONE, has_touch=True)
    image = page.locator("a.enlarge img").first
    address = image.get_attribute("src").split("/")[-1]
    assert inaccessible(page) == []
    image.scroll_into_view_if_needed()
    image.tap()
    page.wait_for_url(f"**/{address}")
    assert open_page("geometry/the-law", viewport=DESK).locator("a.enlarge").count() == 0


def test_the_front_page_is_named_once(open_page):
    assert open_page("index").title() == "The Law of Data Reconstruction"


def test_search_finds_in_a_copy_on_disk(browser):
    page = new_page(browser)
    page.goto(f"{(SITE / 'search.html').as_uri()}?q=Hermite")
    page.locator("#search-results li a[href^='signs/hermite-expansions.html']").first.wait_for()
    page.close()


def test_missing_pages_lead_back(site, browser):
    page = new_page(browser)
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
