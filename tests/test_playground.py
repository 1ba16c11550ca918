"""The playground: its numerics against the package's, and the page in a browser from drawing to verdict."""

import re

import pytest
import torch
from browsing import PHONE, SITE, inaccessible, new_page
from helpers import BOOK
from playwright.sync_api import expect
from scipy.stats import binomtest

import reconlaw as rl
from reconlaw.attack.projection import Projection

BUDGET = 600  # seconds, in place of the page's own 20: no clock decides
CALL = """async ([name, ...args]) => {
  const from = async (module) => import(new URL(`_static/playground/${module}.js`, location.href));
  const { activations } = await from("activations");
  const { combine, featureMap, fit, randomWeights } = await from("features");
  const { attack } = await from("attack");
  const { fromHash, toHash } = await from("address");
  const { defend } = await from("defence");
  const { standardErrors } = await from("precision");
  const { wilson } = await from("sketch");
  const { Problem } = await from("projection");
  const { reconstruct } = await from("solver");
  const { match } = await from("matching");
  const { generator } = await from("random");
  const numbers = (rows) => Float64Array.from(rows.flat());
  const calls = {
    features: (X, V, phi) => featureMap(numbers(X), numbers(V), X.length, V[0].length, activations[phi]),
    fit: (X, y, V, phi) => fit(numbers(X), numbers(y), numbers(V), X.length, V[0].length, activations[phi]),
    point: (U, theta, V, phi, lifted) => {
      const point = new Problem(numbers(theta), numbers(V), activations[phi]).at(numbers(U), lifted);
      return [[point.loss], point.gradient()];
    },
    reconstruct: (theta, V, n, phi) => reconstruct(numbers(theta), numbers(V), { n, phi: activations[phi] }),
    match: (estimates, X) => match(numbers(estimates), numbers(X), X[0].length),
    errors: (U, theta, V, phi) => {
      const point = new Problem(numbers(theta), numbers(V), activations[phi]).at(numbers(U), false);
      return [standardErrors(point), point.alpha];
    },
    defend: (theta, defence, seed) => defend(numbers(theta), defence, seed),
    attack: (task) => {
      const steps = attack({ ...task, theta: numbers(task.theta) });
      for (;;) {
        const { value, done } = steps.next();
        if (done) return value;
      }
    },
    combine: (X, alpha, V, phi) => combine(numbers(X), numbers(alpha), numbers(V), V[0].length, activations[phi]),
    wilson,
    hash: (set) => toHash({ ...set, drawings: set.drawings.map((pixels) => Float64Array.from(pixels)) }),
    unhash: (hash) => {
      const defences = { digits: ["0", "6"], "withhold-n": ["no", "yes"] };
      const allowed = { grids: [8, 12], activations: ["relu", "tanh"], ratios: [1, 5], fewest: 2, most: 6 };
      return fromHash(hash, { ...allowed, defences });
    },
    normals: (purpose, seed, count) => generator(purpose, seed).normals(count),
    weights: (seed, p, d) => randomWeights(seed, p, d),
  };
  return JSON.parse(JSON.stringify(calls[name](...args), (_, v) => (ArrayBuffer.isView(v) ? [...v] : v)));
}"""


@pytest.fixture(scope="module")
def call(site, browser):
    """Call one of the playground's functions in the browser, on plain lists."""
    page = new_page(browser)
    page.goto(f"{site}/playground.html")
    yield lambda name, *args: page.evaluate(CALL, [name, *(a.tolist() if hasattr(a, "tolist") else a for a in args)])
    page.close()


def as_rows(numbers, d):
    return torch.tensor(numbers, dtype=torch.float64).reshape(-1, d)


def problem(activation, n=3, d=36, ratio=6):
    generator = torch.Generator().manual_seed(5)
    draw = torch.randn(2 * n, d, generator=generator, dtype=torch.float64)
    X, U = (draw * d**0.5 / draw.norm(dim=1, keepdim=True)).split(n)
    features = rl.RandomFeatures(d, int(ratio * n * d), activation, seed=3, device="cpu")
    return X, U, features, features.fit(X, torch.tensor([1.0, -1.0, 1.0][:n]))


each_activation = pytest.mark.parametrize("activation", ["relu", "relu+tanh", "gelu", "tanh"])


@each_activation
def test_features_training_loss_and_gradient_agree_with_the_package(call, activation):
    X, U, features, theta = problem(activation)
    close = dict(rtol=1e-11, atol=1e-11)
    ours = as_rows(call("features", U, features.V, activation), features.p)
    torch.testing.assert_close(ours, features(U), **close)
    fitted = as_rows(call("fit", X, torch.tensor([[1.0], [-1.0], [1.0]]), features.V, activation), features.p)
    torch.testing.assert_close(fitted[0], theta, **close)

    U.requires_grad_(True)
    loss = rl.projection_loss(U, features, theta)
    (gradient,) = torch.autograd.grad(loss, U)
    (found,), slope = call("point", U.detach(), theta, features.V, activation, False)
    assert abs(found - loss.item()) < 1e-11
    torch.testing.assert_close(as_rows(slope, features.d), gradient, **close)


@pytest.mark.parametrize("activation", ["relu", "relu+tanh", "gelu"])
def test_lifted_loss_and_gradient_agree_with_the_package(call, activation):
    _, U, features, theta = problem(activation)
    point = Projection(features, theta[None], U, lifted=True)
    (found,), slope = call("point", U, theta, features.V, activation, True)
    assert abs(found - point.loss) < 1e-11
    torch.testing.assert_close(as_rows(slope, features.d), point.gradient(), rtol=1e-10, atol=1e-11)


@each_activation
def test_reconstruction_agrees_with_the_package(call, activation):
    X, _, features, theta = problem(activation)
    ours = call("reconstruct", theta, features.V, len(X), activation)
    theirs = rl.reconstruct(theta, features, n=len(X), seed=1)
    assert ours["converged"] and ours["determined"] and ours["unique"]
    assert ours["signIdentifiable"] == theirs.sign_identifiable
    report = rl.match(as_rows(ours["X"], features.d), theirs.X)
    assert (report.error_up_to_sign if activation == "tanh" else report.error).max() < 1e-6

    pairs = call("match", as_rows(ours["X"], features.d), X)
    report = rl.match(as_rows(ours["X"], features.d), X)
    assert [pair["index"] for pair in pairs] == report.order.tolist()
    torch.testing.assert_close(torch.tensor([p["error"] for p in pairs]).double(), report.error, rtol=1e-6, atol=1e-9)


def test_fewer_equations_than_unknowns_leave_two_answers(call):
    X, _, features, theta = problem("gelu", ratio=1 / 2)
    ours = call("reconstruct", theta, features.V, len(X), "gelu")
    assert not ours["determined"] and ours["signIdentifiable"] is None and ours["unique"] is None
    sets = as_rows(ours["X"], features.d), as_rows(ours["other"]["X"], features.d)
    for found in sets:
        assert rl.projection_loss(found, features, theta) < 1e-18
        assert rl.match(found, X).error_up_to_sign.max() > 0.1
    assert rl.match(*sets).error_up_to_sign.max() > 0.1


def test_random_weights_are_normal_and_their_streams_do_not_meet(call):
    draw = as_rows(call("normals", "features", 1, 40_000), 2)
    assert abs(draw.mean()) < 0.03 and abs(draw.var() - 1) < 0.04 and abs((draw**4).mean() - 3) < 0.2
    assert abs((draw[:, 0] * draw[:, 1]).mean()) < 0.04
    assert call("normals", "features", 1, 4) == draw.flatten()[:4].tolist()
    assert not set(call("normals", "attack", 1, 100)) & set(draw.flatten().tolist())
    assert abs(as_rows(call("weights", 1, 500, 36), 36).var() * 36 - 1) < 0.05


@pytest.mark.parametrize("activation", ["gelu", "relu+tanh", "tanh"])
def test_standard_errors_are_those_of_least_squares(call, activation):
    X, _, features, theta = problem(activation, n=2, d=16)
    theta = theta + 1e-3 * torch.randn(features.p, generator=torch.Generator().manual_seed(2)).double() * theta.std()
    found, alpha = call("errors", X, theta, features.V, activation)
    n, d, alpha = len(X), features.d, as_rows(alpha, 1).flatten()
    residual = theta - features(X).T @ alpha
    s2 = residual.square().sum() / (features.p - n * d)
    moved = torch.func.jacrev(lambda Y: features(Y * d**0.5 / Y.norm(dim=1, keepdim=True)).T @ alpha)(X)
    J = torch.cat([moved.reshape(features.p, n * d), features(X).T], dim=1)
    covariance = s2 * torch.linalg.pinv(J.T @ J, rtol=1e-9)
    expected = torch.stack([covariance.diagonal()[i * d : (i + 1) * d].sum().div(d).sqrt() for i in range(n)])
    torch.testing.assert_close(as_rows(found, 1).flatten(), expected, rtol=1e-6, atol=0)


def test_a_defence_does_what_it_says(call):
    theta = torch.randn(2000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    untouched = call("defend", theta, {}, 1)
    assert untouched["theta"] == theta.tolist() and untouched["kept"] is None and untouched["noise"] == 0
    hidden = call("defend", theta, {"share": 0.25}, 1)
    assert len(set(hidden["kept"])) == 500 and hidden["kept"] == sorted(hidden["kept"])
    assert hidden["theta"] == theta[hidden["kept"]].tolist()
    for defence in ({"digits": 2}, {"noise": 0.1}, {"digits": 1, "noise": 0.01}):
        done = call("defend", theta, defence, 1)
        off = (as_rows(done["theta"], 1).flatten() - theta).square().mean().sqrt()
        assert abs(off / done["noise"] - 1) < 0.1
    assert all(abs(float(f"{v:.1e}") - v) < 1e-12 for v in call("defend", theta, {"digits": 2}, 1)["theta"])


def test_the_attack_tries_what_is_withheld(call):
    task = {"weightsSeed": 1, "d": 36, "seed": 1, "budget": 600}
    X, _, _, _ = problem("tanh", n=2)
    V = as_rows(call("weights", 1, 360, 36), 36)
    theta = call("fit", X, torch.tensor([[1.0], [-1.0]]), V, "tanh")
    found = call("attack", {**task, "theta": theta, "n": 2, "activation": None})
    assert found["converged"] and found["activation"] == "tanh" and found["n"] == 2 and found["tried"] == 4
    kept = list(range(0, 360, 2))
    part = {**task, "theta": [theta[j] for j in kept], "p": 360, "kept": kept, "n": 2, "activation": "tanh"}
    assert rl.match(as_rows(call("attack", part)["X"], 36), X).error_up_to_sign.max() < 1e-6


def test_intervals_and_addresses(call):
    for hits, runs in ((0, 5), (4, 5), (5, 5), (13, 20)):
        interval = binomtest(hits, runs).proportion_ci(method="wilson")
        assert call("wilson", hits, runs) == pytest.approx([interval.low, interval.high], abs=1e-9)
    drawings = [[k % 17 / 16 for k in range(64)], [1.0] * 64]
    settings = {"grid": 8, "activation": "tanh", "ratio": 5, "drawings": drawings}
    bare = call("hash", settings)  # as links from before the defender was kept
    assert call("unhash", bare) == {**settings, "defence": {}}
    settings["defence"] = {"digits": "6", "withhold-n": "yes"}
    fragment = call("hash", settings)
    assert call("unhash", fragment) == settings
    for wrong in (
        "",
        "#draw",
        fragment + "0",
        fragment.replace("tanh", "sine"),
        fragment.replace("ratio=5", "ratio=7"),
        fragment.replace("digits=6", "digits=7"),
    ):
        assert call("unhash", wrong) is None


def test_the_attack_imports_neither_drawings_nor_scores():
    folder, reached, waiting = BOOK / "_assets" / "playground", set(), ["worker.js"]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += re.findall(r'from "\./([\w-]+\.js)"', (folder / name).read_text(encoding="utf-8"))
    assert "solver.js" in reached
    assert not reached & {"matching.js", "pictures.js", "training.js", "library.js", "playground.js", "defence.js"}


class Playground:
    """The page as a reader uses it."""

    def __init__(self, page):
        self.page = page
        expect(page.locator("#playground")).to_be_visible()
        page.evaluate("(seconds) => (document.getElementById('playground').dataset.budget = seconds)", BUDGET)

    def part(self, name):
        return self.page.locator(f"[data-part={name}]")

    def cell(self, row, column):
        return self.page.get_by_role("gridcell", name=f"row {row}, column {column}", exact=True)

    def drag(self, *cells):
        boxes = [self.cell(*cell).bounding_box() for cell in cells]
        points = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point)
        self.page.mouse.up()

    def set_ratio(self, ratio):
        slider = self.part("ratio")
        slider.focus()
        slider.press("Home")
        while self.part("ratio-value").inner_text() != str(ratio):
            slider.press("ArrowRight")

    def train(self):
        self.part("train").click()
        expect(self.part("forget")).to_be_visible()

    def recover(self):
        self.part("recover").click()
        self.until_done()

    def until_done(self):
        expect(self.page.locator("#playground")).to_have_attribute("data-stage", "done")

    @property
    def title(self):
        return self.part("verdict").locator("h3").inner_text()

    def errors(self):
        cards = self.page.locator("[data-error]").all()
        return [float(card.get_attribute("data-error")) for card in cards]


@pytest.fixture
def playground(open_page):
    return lambda **options: Playground(open_page("playground", **options))


SPY = """() => {
  window.sent = [];
  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (message) { window.sent.push(message); return post.call(this, message); };
}"""


def test_drawings_come_back_from_theta_alone(playground):
    one = playground()
    page = one.page
    page.evaluate(SPY)
    one.part("clear").click()
    one.drag((1, 1), (8, 8))
    one.drag((1, 8), (4, 5))
    expect(page.locator("[role=gridcell][aria-selected=true]")).to_have_count(12)
    one.part("add").click()
    one.part("digit").click()
    expect(one.part("thumbs").locator("canvas")).to_have_count(5)
    assert one.part("count").inner_text() == "1,600 parameters for 5 × 64 = 320 unknown pixels"
    one.train()
    expect(one.part("draw")).to_be_hidden()
    assert one.part("thumbs").locator("canvas").count() == 0
    assert page.locator("[role=gridcell][aria-selected=true]").count() == 0
    assert "1,600 numbers" in one.part("sent").inner_text()
    one.recover()

    assert one.title == "Recovered"
    errors = one.errors()
    assert len(errors) == 5 and max(errors) < 1e-2
    (message,) = page.evaluate("() => sent.map((m) => [Object.keys(m).sort(), m.theta.length, m.n, m.d])")
    assert message == [["activation", "budget", "d", "n", "seed", "theta", "weightsSeed"], 1600, 5, 64]
    assert "nudged" in one.part("chart").text_content()
    assert page.complaints == []


def test_below_the_law_nothing_counts_as_recovered(playground):
    one = playground(color_scheme="dark")
    one.set_ratio(0.5)
    one.train()
    one.recover()
    assert one.title == "The information is not there"
    text = one.part("verdict").inner_text()
    assert "128 numbers" in text and "256 unknowns" in text and "ecovered" not in text
    assert min(one.errors()) > 0.1
    assert one.page.complaints == []


def test_an_odd_activation_leaves_the_sign_open(playground):
    one = playground()
    one.part("activation").select_option("tanh")
    one.train()
    one.recover()
    assert one.title == "Recovered, up to sign"
    for error in one.errors():
        assert error < 1e-2 or abs(error - 2) < 1e-2
    assert one.part("cards").get_by_text("or this").count() == 4


def test_a_sign_may_flip_and_theta_stays(playground):
    one = playground(reduced_motion="reduce")
    one.part("activation").select_option("tanh")
    one.train()
    one.recover()
    one.page.get_by_role("button", name="Flip the sign of the first picture").click()
    expect(one.part("verdict")).to_contain_text("have changed sign")
    expect(one.part("verdict")).to_contain_text("the largest difference is 0 of")


def test_a_defended_theta_is_blurred_and_says_how_much(playground):
    one = playground(reduced_motion="reduce")
    one.page.evaluate(SPY)
    one.train()
    one.part("defence").locator("summary").click()
    one.part("share").select_option("0.75")
    one.part("noise").select_option("0.1")
    assert "960 numbers for 256 unknown pixels: p/dn = 3.8" in one.part("left").inner_text()
    one.part("withhold-activation").check()
    assert "withheld" in one.part("sent").inner_text()
    assert "320 of them hidden" in one.part("theta").get_attribute("aria-label")
    one.part("withhold-activation").uncheck()
    one.recover()
    (message,) = one.page.evaluate("() => sent.map((m) => [Object.keys(m).sort(), m.theta.length, m.p, m.kept.length])")
    keys = ["activation", "budget", "d", "kept", "n", "noise", "p", "seed", "theta", "weightsSeed"]
    assert message == [keys, 960, 1280, 960]
    assert one.title == "Found, as sharp as the noise lets" and min(one.errors()) > 1e-3
    assert one.part("cards").get_by_text("expected about").count() == 4
    assert one.page.complaints == [] and inaccessible(one.page, root="#playground") == []


def test_withheld_n_is_tried_until_it_fits(playground):
    one = playground(reduced_motion="reduce")
    one.page.evaluate(SPY)
    for _ in range(2):
        one.part("remove").click()
    one.train()
    one.part("defence").locator("summary").click()
    one.part("withhold-n").check()
    expect(one.part("sent")).to_contain_text("n withheld")
    one.recover()
    (message,) = one.page.evaluate("() => sent.map((m) => ['n' in m, m.n, m.activation])")
    assert message == [True, None, "relu"]
    assert one.title == "Recovered" and max(one.errors()) < 1e-2
    said = one.part("verdict").inner_text()
    assert "Nobody told it how many pictures there were. It tried 2 of the combinations, until 2 pictures and" in said
    assert one.page.complaints == []


FAKE = """() => {
  window.Worker = class {
    constructor() { window.attacker = this; }
    postMessage(task) { this.task = task; }
    terminate() {}
  };
}"""
STEP = """([start, loss]) => attacker.onmessage({
  data: { step: { X: new Float64Array(attacker.task.n * attacker.task.d), stage: "search", start, loss } },
})"""


def test_a_search_says_which_start_it_is_at_and_how_long_it_has(playground):
    """On a clock that this test turns, with an attacker that it plays."""
    one = playground()
    page = one.page
    page.evaluate("() => delete document.getElementById('playground').dataset.budget")
    page.clock.install()
    page.evaluate(FAKE)
    one.train()
    one.part("recover").click()
    for start, loss, seconds, wanted in (
        (1, 0.25, 0, "Searching: step 1, loss 0.25; 20 s left at most."),
        (1, 0.125, 7, "Searching: step 2, loss 0.13; 13 s left at most."),
        (3, 0.5, 5, "Searching: start 3, step 3, loss 0.5; 8 s left at most."),
        (3, 0.5, 30, "Searching: start 3, step 4, loss 0.5; 0 s left at most."),
    ):
        page.clock.run_for(seconds * 1000 - 50 if seconds else 0)
        page.evaluate(STEP, [start, loss])
        page.clock.run_for(50)
        expect(one.part("progress")).to_have_text(wanted)
    assert page.complaints == []


def test_an_address_keeps_the_drawings_and_the_settings(playground):
    one = playground()
    one.part("clear").click()
    one.drag((1, 1), (1, 8))
    one.part("activation").select_option("gelu")
    one.set_ratio(1.5)
    one.page.wait_for_url("**ratio=1.5**")
    other = one.page.context.new_page()
    other.goto(one.page.url)
    shown = Playground(other)
    expect(other.locator("[role=gridcell][aria-selected=true]")).to_have_count(8)
    assert shown.part("activation").input_value() == "gelu" and shown.part("ratio-value").inner_text() == "1.5"


def test_an_address_keeps_the_defence(playground):
    one = playground(reduced_motion="reduce")
    one.train()
    one.part("defence").locator("summary").click()
    one.part("digits").select_option("3")
    one.part("withhold-n").check()
    one.page.wait_for_url("**withhold-n=yes**")
    other = one.page.context.new_page()
    other.goto(one.page.url)
    shown = Playground(other)
    shown.train()
    assert shown.part("digits").input_value() == "3" and shown.part("withhold-n").is_checked()
    assert "withheld" in shown.part("sent").inner_text()


def test_runs_stay_to_be_compared(playground):
    one = playground(reduced_motion="reduce")
    one.set_ratio(0.5)
    one.train()
    one.recover()
    expect(one.part("history")).to_be_hidden()
    slider = one.part("again-ratio")
    slider.focus()
    slider.press("End")
    one.part("again").click()
    one.until_done()
    assert one.title == "Recovered"
    earlier = one.part("history").get_by_role("button", name="p/dn = 0.5")
    earlier.click()
    assert one.title == "The information is not there"
    expect(one.part("history").get_by_role("button", pressed=True)).to_have_text(re.compile("p/dn = 0.5"))
    assert inaccessible(one.page, root="#playground") == []


def test_a_reader_draws_and_measures_her_own_transition(playground):
    one = playground(reduced_motion="reduce")
    page = one.page
    for _ in range(2):  # two pictures are searched in a fraction of the time of four
        one.part("remove").click()
    handle = page.get_by_role("slider", name="Your guess at p/dn = 0.9", exact=True)
    handle.focus()
    for key in ("Home", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    expect(handle).to_have_attribute("aria-valuenow", "10")
    row = one.part("shares").locator("tr").nth(1)
    expect(row.locator("td").first).to_have_text("10 %")
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] - 80)
    page.mouse.up()
    assert int(handle.get_attribute("aria-valuenow")) > 30
    one.part("measure").click()
    expect(one.part("sweep-progress")).to_contain_text("Search 3 of 35")
    one.part("halt").click()
    expect(row.locator("td").nth(1)).to_have_text("0 of 1 (0–79 %)")
    row.get_by_role("button", name="Replay a run at p/dn = 0.9").click()
    one.until_done()
    assert one.title == "The information is not there"
    assert page.complaints == []


def test_the_keyboard_is_enough(playground):
    one = playground(reduced_motion="reduce")
    page = one.page
    page.locator("[role=gridcell][tabindex='0']").focus()
    for key in ["ArrowRight", "ArrowDown", "End", "ArrowUp", "Space", "ArrowLeft", "Enter"]:
        page.keyboard.press(key)
    expect(one.cell(1, 8)).to_have_attribute("aria-selected", "true")
    expect(one.cell(1, 7)).to_have_attribute("aria-selected", "false")
    expect(one.cell(1, 7)).to_be_focused()
    expect(page.locator("[role=gridcell][tabindex='0']")).to_have_count(1)
    one.part("train").focus()
    page.keyboard.press("Enter")
    expect(one.part("forget-title")).to_be_focused()
    page.keyboard.press("Tab")
    expect(one.part("defence").locator("summary")).to_be_focused()
    page.keyboard.press("Tab")
    expect(one.part("recover")).to_be_focused()
    page.keyboard.press("Enter")
    one.until_done()
    expect(one.part("outcome-title")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(one.part("draw-title")).to_be_focused()
    expect(one.cell(1, 8)).to_have_attribute("aria-selected", "true")


def test_everything_has_a_name(playground):
    one = playground()
    tree = one.page.locator("#playground").aria_snapshot()
    for line in [
        'heading "1 Draw" [level=2]',
        'grid "Picture 1, 8 by 8 cells"',
        'gridcell "row 8, column 8"',
        'button "Picture 1" [pressed]',
        'button "Add a picture"',
        'combobox "Grid"',
        'combobox "Activation"',
        'slider "p/dn = 5"',
        'button "Train"',
    ]:
        assert line in tree, tree
    one.train()
    tree = one.page.locator("#playground").aria_snapshot()
    assert 'img "The 1,280 numbers of θ' in tree and 'button "Recover"' in tree
    one.recover()
    tree = one.page.locator("#playground").aria_snapshot()
    assert 'img "picture 1 as drawn"' in tree and 'img "found, for picture 1"' in tree and "status" in tree
    assert 'img "The loss fell to' in tree


def test_a_search_can_be_stopped_and_the_drawings_come_back(playground):
    one = playground()
    one.part("grid").select_option("12")
    one.set_ratio(1)
    one.train()
    one.part("recover").click()
    expect(one.part("progress")).to_contain_text("step")
    one.part("stop").click()
    assert one.title == "Stopped"
    expect(one.part("recover")).to_have_text("Recover again")
    assert one.errors() == []
    one.part("back").click()
    expect(one.part("outcome")).to_be_hidden()
    expect(one.part("thumbs").locator("canvas")).to_have_count(4)
    assert one.page.complaints == []


def test_pictures_that_cannot_be_told_apart_are_refused(playground):
    one = playground()
    one.part("clear").click()
    one.part("train").click()
    expect(one.part("complaint")).to_contain_text("Picture 1 is blank")
    one.drag((1, 1), (1, 2))
    expect(one.part("complaint")).to_be_empty()
    for _ in range(2):
        one.part("thumbs").locator("button").nth(1).click()
        one.part("remove").click()
    one.part("thumbs").locator("button").nth(1).click()
    one.part("clear").click()
    one.drag((1, 1), (1, 2))
    one.part("train").click()
    expect(one.part("complaint")).to_contain_text("Pictures 1 and 2 are the same")
    expect(one.part("remove")).to_be_disabled()


def test_on_a_phone_a_finger_draws_and_nothing_overflows(playground):
    one = playground(viewport=PHONE, has_touch=True, is_mobile=True)
    page = one.page
    fits = "() => document.scrollingElement.scrollWidth <= innerWidth"
    one.part("clear").tap()
    one.part("easel").scroll_into_view_if_needed()
    before = page.evaluate("() => scrollY")
    start, end = (one.cell(row, 4).bounding_box() for row in (8, 1))
    touch = page.context.new_cdp_session(page)
    for kind, box in (("touchStart", start), ("touchMove", end), ("touchEnd", None)):
        points = [{"x": box["x"] + 9, "y": box["y"] + 9}] if box else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(page.locator("[role=gridcell][aria-selected=true]")).to_have_count(8)
    assert page.evaluate("() => scrollY") == before
    assert page.evaluate(fits)
    one.part("grid").select_option("12")
    assert min(page.locator("[role=gridcell]").first.bounding_box().values(), key=abs) > 0
    one.part("grid").select_option("8")
    one.train()
    assert page.evaluate(fits)
    one.recover()
    assert one.title == "Recovered" and page.evaluate(fits)


def test_it_works_from_disk(browser):
    page = new_page(browser, reduced_motion="reduce")
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((SITE / "playground.html").as_uri())
    one = Playground(page)
    one.train()
    one.recover()
    assert one.title == "Recovered" and max(one.errors()) < 1e-2
    expect(one.part("same-thread")).to_be_visible()
    assert complaints == []
    page.close()
