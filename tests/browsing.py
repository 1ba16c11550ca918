"""The built site in a browser, served as GitHub Pages serves it and with no other network: what its tests share."""

import contextlib
import functools
import gzip
import http.server
import mimetypes
import os
import shutil
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from helpers import ROOT, SLUG

SITE = Path(os.environ.get("SITE", ROOT / "_build" / "html")).resolve()
OWNER, NAME = (os.environ.get("GITHUB_REPOSITORY") or SLUG).split("/")  # as the build takes it
HOST = f"{OWNER.lower()}.github.io"
BASE = "" if NAME.lower() == HOST else f"/{NAME}"  # Pages serves a project in a folder of its owner's host
ADDRESS = f"https://{HOST}{BASE}/"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# A fresh tab is a whole window, and its address bar's menus and a renderer in store cost as much as a page does. The
# others are those that Playwright turns off, since a browser heeds the last such list alone.
TURNED_OFF = (
    "OmniboxPopupWebUIContent OmniboxAimPopupWebUIContent OmniboxFullPopupWebUIContent OmniboxPopupWebUIBaseContent "
    "WebUIOmniboxPopup WebUIOmniboxAimPopup WebUIOmniboxFullPopup SpareRendererForSitePerProcess "
    "AvoidUnnecessaryBeforeUnloadCheckSync DestroyProfileOnBrowserClose HttpsUpgrades HttpsFirstBalancedModeAutoEnable "
    "LensOverlay MediaRouter PaintHolding ThirdPartyStoragePartitioning AvoidCorsURLLoaderRestartOnRedirect "
    "OptimizationHints NetworkTimeServiceQuerying AimEnabled PreconnectToSearch"
).split()
FLAGS = [
    *"--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking".split(),
    *"--disable-component-update --disable-sync".split(),
    f"--disable-features={','.join(TURNED_OFF)}",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing but the site can be reached
]
PATIENCE = 600_000  # milliseconds: a busy machine with one core takes thirty times the second of a laptop
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

# What axe finds and nobody here can mend: {rule: why}. Nothing, so far.
NOT_OURS = {}
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# Text looks alike where its colour and size are the same, and so is all that is painted behind it.
FINDINGS = """async ([options, coloursAlone, root, known]) => {
  const looks = new Map();
  for (const element of document.querySelectorAll(`${root}, ${root} *`)) {
    const text = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!text && !element.matches("input, select, textarea") || !element.checkVisibility()) continue;
    const { color, fill, fontSize, fontWeight, textShadow } = getComputedStyle(element);
    const look = [element.tagName, color, fill, fontSize, fontWeight, textShadow];
    look.push(element.parentElement && getComputedStyle(element.parentElement).color);  // beside a link
    for (let box = element, over = true; box && over; box = box.parentElement) {
      const { opacity, backgroundColor, backgroundImage } = getComputedStyle(box);
      look.push(opacity, backgroundColor, backgroundImage);
      over = backgroundColor.startsWith("rgba");
    }
    if (!looks.has(look.join())) looks.set(look.join(), element);
  }
  for (const element of document.querySelectorAll("[data-look]")) delete element.dataset.look;
  for (const element of looks.values()) element.dataset.look = "";
  if (coloursAlone && !looks.size) return [];
  const where = coloursAlone ? { include: [...looks.values()] } : root === "body" ? document : root;
  const { violations } = await axe.run(where, options);
  return violations.filter((v) => !(v.id in known))
    .flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(" ")} ${n.html.slice(0, 160)}`));
}"""
# One run of all rules lays out one grid of what lies over what; of the rules on colours it asks each look once.
LOOKS = {
    "color-contrast": "[data-look], [data-look] *",
    "link-in-text-block": "a[data-look][href], [data-look] a[href]",
}


def skip_unless_there_is_a_site():
    """Skip a test, or at the head of a module all of its tests, where there is no browser or no site; never in CI."""
    if os.environ.get("CI") == "true":
        return
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
        with contextlib.suppress(ConnectionError):  # a tab that is closed before all has come
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def site():
    skip_unless_there_is_a_site()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}{BASE}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    skip_unless_there_is_a_site()
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


def new_page(browser, **options):
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE)
    return page


@pytest.fixture
def open_page(site, browser):
    """Open a page in a fresh tab; `.complaints` collects its console errors, also of what is asked of other hosts."""
    contexts = []

    def open_page(name, query="", **options):
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("pageerror", lambda e: page.complaints.append(str(e)))
        page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
        page.goto(f"{site}/{name}.html{query}", wait_until="load")
        return page

    yield open_page
    for context in contexts:
        context.close()


def width(page):
    return page.evaluate("() => document.scrollingElement.scrollWidth")


def inaccessible(page, root=None, colours_alone=False):
    """What axe complains of, by all of WCAG's rules or those on colours; transitions end first.

    Contrast takes axe most of the time by far: it is looked at once for each look that text has on the page.
    """
    from axe_playwright_python.sync_playwright import Axe

    if not page.evaluate("() => Boolean(window.axe)"):
        page.add_style_tag(content="* { transition: none !important }")
        page.evaluate(Axe().axe_script)
        page.evaluate("rules => axe.configure({ rules })", [{"id": r, "selector": s} for r, s in LOOKS.items()])
    only = {"type": "rule", "values": list(LOOKS)} if colours_alone else {"type": "tag", "values": WCAG}
    options = {"resultTypes": ["violations"], "preload": False, "runOnly": only}
    return page.evaluate(FINDINGS, [options, colours_alone, root or "body", NOT_OURS])
