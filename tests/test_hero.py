"""The front page's law in a browser: on either side of p = dn, by keyboard, on a phone, and without scripts."""

import pytest
from browsing import DESK, PHONE, inaccessible, skip_unless_there_is_a_site, width
from playwright.sync_api import expect

skip_unless_there_is_a_site()

BROKEN_WORDS = r"""root => {
  const texts = document.createTreeWalker(document.querySelector(root), NodeFilter.SHOW_TEXT), broken = [];
  for (let node; (node = texts.nextNode());)
    for (const { 0: word, index } of node.data.matchAll(/\S+/g)) {
      const range = document.createRange();
      range.setStart(node, index);
      range.setEnd(node, index + word.length);
      if (new Set([...range.getClientRects()].map(line => line.top)).size > 1) broken.push(word);
    }
  return broken;
}"""


def at(page, ratio, budget=600):
    """Move the slider by its keys. The live search has all the time it needs, or none: no clock decides."""
    page.evaluate("(seconds) => (document.getElementById('hero').dataset.budget = seconds)", budget)
    slider = page.get_by_label("p/dn")
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(20):
        if slider.get_attribute("aria-valuetext") == str(ratio):
            break
        page.keyboard.press("ArrowRight")
    expect(page.locator("#hero")).to_have_attribute("data-ended", str(ratio))
    return page.locator(".hero-status").inner_text()


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_the_law_on_the_front_page(open_page, viewport):
    page = open_page("index", viewport=viewport)
    said = at(page, 2)
    assert "All four come back" in said and "from θ alone" in said
    said = at(page, 0.5)
    assert "128 numbers for 256 unknowns" in said and "neither is true" in said
    expect(page.locator("[data-part=name]")).to_have_text("impostor B")
    assert page.complaints == [] and inaccessible(page, root="#hero") == []
    assert width(page) <= viewport["width"] and page.evaluate(BROKEN_WORDS, ".hero-pictures") == []


def test_a_finger_taps_and_drags_the_slider(open_page):
    page = open_page("index", viewport=PHONE, has_touch=True, is_mobile=True)
    page.evaluate("() => (document.getElementById('hero').dataset.budget = 600)")
    slider = page.get_by_label("p/dn")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box["height"] >= 24, "a finger misses what is thinner"
    middle = box["y"] + box["height"] / 2
    page.touchscreen.tap(box["x"] + 2, middle)
    expect(slider).to_have_attribute("aria-valuetext", "0.5")
    expect(page.locator("#hero")).to_have_attribute("data-ended", "0.5")
    assert "128 numbers for 256 unknowns" in page.locator(".hero-status").inner_text()

    before, touch = page.evaluate("() => scrollY"), page.context.new_cdp_session(page)
    for kind, share in (
        ("touchStart", 0),
        ("touchMove", 0.3),
        ("touchMove", 0.7),
        ("touchMove", 1),
        ("touchEnd", None),
    ):
        points = [] if share is None else [{"x": box["x"] + 8 + share * (box["width"] - 10), "y": middle}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(slider).to_have_attribute("aria-valuetext", "5")
    assert page.evaluate("() => scrollY") == before
    expect(page.locator("#hero")).to_have_attribute("data-ended", "5")
    assert "All four come back" in page.locator(".hero-status").inner_text()
    assert page.complaints == []


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_two_ways_in_above_the_fold(open_page, viewport, scripts):
    page = open_page("index", viewport=viewport, java_script_enabled=scripts)
    for name in ("Play", "Read"):
        link = page.locator(".hero-button", has_text=name)
        assert link.bounding_box()["y"] + link.bounding_box()["height"] < viewport["height"]
    page.locator(".hero-button", has_text="Read").click()
    page.wait_for_url("**/images-from-weights.html")


def test_impostors_hold_still_for_those_who_want_no_motion(open_page):
    page = open_page("index", reduced_motion="reduce")
    at(page, 0.5)
    expect(page.locator("[data-part=name]")).to_have_text("impostor A")
    page.wait_for_timeout(2000)
    expect(page.locator("[data-part=name]")).to_have_text("impostor A")


def test_without_javascript_the_picture_stands_alone(open_page):
    page = open_page("index", java_script_enabled=False)
    assert not page.locator("#hero").is_visible()
    assert page.locator("figure img").first.is_visible()


def test_where_the_search_does_not_arrive_a_stored_run_is_shown_and_named(open_page):
    page = open_page("index", viewport=DESK)
    assert "stored run of the package's solver" in at(page, 1.5, budget=0)
    expect(page.locator("[data-part=name]")).to_have_text("a stored run")
    said = at(page, 1, budget=0)
    assert "Still searching" in said and "did not find them either" in said
