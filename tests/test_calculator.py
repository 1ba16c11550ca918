"""The risk calculator: its counts against published ones and the package's, and the page in a browser."""

import json
import math
import re
import shlex

import pytest
import torch
from browsing import SITE, new_page
from helpers import BOOK
from playwright.sync_api import expect

from reconlaw import counting
from reconlaw.__main__ import main, parser
from reconlaw.auditing.given import inputs_from
from reconlaw.auditing.outcome import EXIT

SOURCE = (BOOK / "_assets" / "calculator" / "architectures.js").read_text(encoding="utf-8")
ARCHITECTURES = {
    one["id"]: one for one in json.loads(re.search(r"^export const architectures = (.*);\n", SOURCE, re.M | re.S)[1])
}
CALL = """async ([id, recipe, outputs, rank, d, n, softmax]) => {
  const from = async (module) => import(new URL(`../_static/calculator/${module}.js`, location.href));
  const { architectures } = await from("architectures");
  const { equationRatio, lawRatio, mostSamples, parameterCount, trainedParameters } = await from("counts");
  const one = architectures.find((a) => a.id === id);
  const p = trainedParameters(one, recipe, outputs, rank);
  const most = mostSamples(p, one.width, outputs, d, softmax);
  return [parameterCount(one.layers), p, most, lawRatio(p, d, n), equationRatio(p, one.width, outputs, d, n, softmax)];
}"""


@pytest.mark.parametrize("one", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_layers_add_up_to_the_published_count(one):
    total = counting.parameter_count(one["layers"])
    assert one["source"].startswith("https://") and one["d"] == math.prod(one["shape"]) and one["inputs"]
    if "published" in one:
        assert total == one["published"]
    head = [layer for layer in one["layers"] if layer.get("head")]
    assert all(layer["shape"][1] == one["width"] for layer in head if len(layer["shape"]) == 2)


def test_the_papers_settings():
    """CIFAR-10: random features p/dn = 3.3 for n = 10, the two-layer network 4.0 for n = 100."""
    for name, n, ratio in (("random-features", 10, 3.3), ("two-layer", 100, 4.0)):
        one = ARCHITECTURES[name]
        p = counting.trained_parameters(one, "head", one["outputs"])
        assert round(counting.law_ratio(p, one["d"], n), 1) == ratio


def test_adapters_by_hand():
    llama = ARCHITECTURES["llama-2-7b"]
    queries_and_values = 2 * 32 * 8 * (4096 + 4096)
    assert counting.trained_parameters(llama, "lora", 2, 8) == queries_and_values + 2 * 4096 == 4_194_304 + 8192
    convolutions = {"width": 3, "layers": [{"shape": [8, 4, 3, 3], "times": 2, "lora": True}]}
    assert counting.trained_parameters(convolutions, "lora", 1, 5) == 2 * 5 * (8 + 36) + 3
    assert counting.trained_parameters(convolutions, "full", 1) == 2 * 288 + 3
    assert counting.trained_parameters(convolutions, "lora-b", 1, 5) == 2 * 5 * 8 + 3
    with pytest.raises(ValueError, match="'head', 'lora-b', 'lora', 'full'"):
        counting.trained_parameters(llama, "prompt", 2)


def test_a_head_has_no_more_equations_than_its_rank_allows():
    def head(width, outputs, *rest, **options):
        return counting.equation_ratio(width * outputs, width, outputs, *rest, **options)

    assert head(512, 3, 64, 6) == pytest.approx(2 * 512 / (6 * 65))  # as in Your own model
    assert head(2048, 1000, 150528, 1) == pytest.approx(2048 / 150528)
    assert head(100_000, 1, 3072, 10) == pytest.approx(counting.law_ratio(100_000, 3072, 10))
    assert head(50, 4, 9, 2, softmax=False) == 2 * 50 / (2 * 10)
    assert counting.equation_ratio(7000, 50, 4, 9, 2, softmax=False) == (7000 - 2 * 50) / (2 * 10)
    with pytest.raises(ValueError, match=r"p=199 is less than the head's 4·50 = 200"):
        counting.equation_ratio(199, 50, 4, 9, 2)


def test_the_most_samples_are_those_at_which_the_count_turns():
    for p, width, outputs, d in (
        (2048 * 10, 2048, 10, 300),
        (100_000, 100_000, 1, 3072),
        (50, 10, 5, 4),
        (9, 9, 1, 20),
    ):
        most = counting.most_samples(p, width, outputs, d)
        assert most == 0 or counting.equation_ratio(p, width, outputs, d, most) >= 1
        assert counting.equation_ratio(p, width, outputs, d, most + 1) < 1
    assert counting.most_samples(100_000, 100_000, 1, 3072) == 100_000 // 3072


@pytest.fixture(scope="module")
def call(site, browser):
    page = new_page(browser)
    page.goto(f"{site}/limits/risk-calculator.html")
    yield lambda *arguments: page.evaluate(CALL, list(arguments))
    page.close()


@pytest.mark.parametrize("one", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_browser_counts_as_the_package_does(call, one):
    for outputs, rank, n, softmax in ((1, 8, 1, True), (10, 1, 25, True), (1000, 64, 4321, False)):
        for recipe in counting.RECIPES:
            p = counting.trained_parameters(one, recipe, outputs, rank)
            expected = [
                counting.parameter_count(one["layers"]),
                p,
                counting.most_samples(p, one["width"], outputs, one["d"], softmax),
                counting.law_ratio(p, one["d"], n),
                counting.equation_ratio(p, one["width"], outputs, one["d"], n, softmax),
            ]
            found = call(one["id"], recipe, outputs, rank, one["d"], n, softmax)
            assert found[:3] == expected[:3] and found[3:] == pytest.approx(expected[3:], rel=1e-14)


class Calculator:
    """The page as a reader uses it."""

    def __init__(self, page):
        self.page = page
        expect(page.locator("#calculator")).to_be_visible()

    def part(self, name):
        return self.page.locator(f"[data-part={name}]")

    def fill(self, **values):
        for name, value in values.items():
            self.part(name).fill(str(value))

    def table(self):
        rows = self.part("rows").locator("tr").all()
        return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in rows]


@pytest.fixture
def calculator(open_page):
    return lambda **options: Calculator(open_page("limits/risk-calculator", **options))


def test_a_choice_is_counted_drawn_and_put_in_words(calculator):
    one = calculator()
    one.part("architecture").select_option("random-features")
    one.fill(n=10)
    assert one.table() == [["Head only", "100,000", "3.3", "above, near", "32"]]
    one.part("architecture").select_option("resnet-50")
    one.fill(n=1, outputs=1000)
    head, first, lora, full = one.table()
    assert head == ["Head only", "2,048,000", "0.014", "below, by rank", "0"]
    assert full[1] == f"{25_557_032 - 1000:,}" and full[3] == "far above" and lora[0] == "LoRA, rank 8"
    assert first[0] == "LoRA, rank 8, B alone" and int(first[1].replace(",", "")) < int(lora[1].replace(",", ""))
    expect(one.part("verdict")).to_contain_text("The plain count flatters, p/dn = 14")
    expect(one.part("counts")).to_contain_text("1,000, to fit the labels")
    expect(one.part("command")).to_have_text(re.compile(r"^python -m reconlaw audit .*--input-shape 3,224,224 --n 1 "))
    drawn = one.part("chart").locator("text", has_text="Head only").text_content()
    assert drawn == "Head only: 0.014", "one number in the plot, the table and the words"
    one.fill(outputs=10, n=200)
    assert one.table()[0][3] == "below the count"
    expect(one.part("caveats")).to_contain_text("this many samples at once have not been recovered")
    one.part("architecture").select_option("bert-base")
    expect(one.part("caveats")).to_contain_text("Tokens come from a finite list")
    assert one.part("d").input_value() == str(128 * 768)
    assert (
        one.part("chart")
        .get_attribute("aria-label")
        .startswith("Equations for each unknown on a logarithmic axis: Head")
    )
    assert one.part("chart").locator("circle").count() == 4
    assert one.page.complaints == []


def test_plot_table_and_words_say_one_ratio(calculator):
    """And the package the same: here p/dn = 5 and fewer independent equations than unknowns."""
    page = calculator()
    page.part("architecture").select_option("vit-b-16")
    page.fill(n=1, outputs=1000, rank=8)
    vit, rows = ARCHITECTURES["vit-b-16"], page.table()
    assert [row[0] for row in rows] == ["Head only", "LoRA, rank 8, B alone", "LoRA, rank 8", "Everything"]
    circles = page.part("chart").locator("circle").all()
    above = page.part("chart").locator("rect").bounding_box()["x"]
    for (name, p, value, tag, most), recipe, dot in zip(rows, ("head", "lora-b", "lora", "full"), circles, strict=True):
        trained = counting.trained_parameters(vit, recipe, 1000, 8)
        ratio = counting.equation_ratio(trained, vit["width"], 1000, vit["d"], 1)
        assert p == f"{trained:,}" and float(value.replace(",", "")) == pytest.approx(ratio, rel=0.051)
        assert tag.startswith("above" if ratio >= 1 else "below") or tag == "far above" and ratio >= 5
        assert (int(most.replace(",", "")) >= 1) == (ratio >= 1)
        box = dot.bounding_box()
        assert (box["x"] + box["width"] / 2 > above) == (ratio >= 1), "the dot lies where its number says"
        expect(page.part("chart").locator("text", has_text=f"{name}:")).to_have_text(f"{name}: {value}")
        expect(page.part("verdict")).to_contain_text(f"{name}: {value} for each unknown")
        assert f" {name} {value}" in page.part("chart").get_attribute("aria-label")
    assert rows[0][2:4] == ["0.0051", "below, by rank"]


def audit_arguments(page):
    program, arguments = page.part("command").inner_text().split("reconlaw ", 1)
    assert program == "python -m "
    return shlex.split(arguments)


@pytest.mark.parametrize("d", [None, 3 * 32 * 32, 1000])
def test_the_command_at_the_end_can_be_parsed(calculator, d):
    page = calculator()
    for name in (*ARCHITECTURES, "own"):
        page.part("architecture").select_option(name)
        page.fill(n=7, **({} if d is None else {"d": d}))
        given = parser().parse_args(audit_arguments(page))
        assert given.command == "audit" and given.n == 7
        assert math.prod(given.input_shape) == int(page.part("d").input_value())
        if given.inputs:
            assert len(inputs_from(given.inputs, given.input_shape).low) == math.prod(given.input_shape)


MODEL = """
import torch
def build():
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Linear(12, 80), torch.nn.Tanh(), torch.nn.Linear(80, 2))
    return body.double()
"""


def test_the_command_at_the_end_runs(calculator, tmp_path, monkeypatch, capsys):
    """With the files and the model filled in, and few steps."""
    page = calculator()
    page.part("architecture").select_option("own")
    page.fill(d=12, n=2, p=160)
    arguments = audit_arguments(page)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "calculated_model.py").write_text(MODEL, encoding="utf-8")
    import calculated_model

    model, generator = calculated_model.build(), torch.Generator().manual_seed(1)
    torch.save(model.state_dict(), "before.pt")
    X = torch.randn(2, 12, generator=generator, dtype=torch.float64)
    X *= 12**0.5 / X.norm(dim=1, keepdim=True)
    with torch.no_grad():
        model[2].weight += torch.randn(2, 2, generator=generator, dtype=torch.float64) @ model[1](model[0](X))
    torch.save(model.state_dict(), "after.pt")
    arguments[arguments.index("MODULE:FACTORY")] = "calculated_model:build"
    assert main([*arguments, "--max-steps", "2000", "--references", "1", "--quiet"]) == EXIT["recovered"]
    assert (tmp_path / "audit.html").is_file()


def test_own_numbers_and_wrong_ones(calculator):
    one = calculator(color_scheme="dark")
    one.part("architecture").select_option("own")
    expect(one.part("outputs")).to_be_hidden()
    one.fill(d=100, n=20, p=20000)
    assert one.table() == [["Your p", "20,000", "10", "far above", "200"]]
    for wrong in ("", "0", "2.5", "-3"):
        one.fill(n=wrong)
        expect(one.part("complaint")).to_contain_text("whole number of at least 1 for n")
        expect(one.part("results")).to_be_hidden()
        assert one.part("n").get_attribute("aria-invalid") == "true"
    one.fill(n=3)
    expect(one.part("results")).to_be_visible()
    expect(one.part("complaint")).to_be_empty()
    one.fill(n=20001)
    expect(one.part("verdict")).to_contain_text("Fewer parameters than labels")
    assert one.page.complaints == []


def test_the_keyboard_and_a_screen_reader_suffice(calculator):
    one = calculator()
    one.part("architecture").focus()
    reached = []
    for _ in range(9):
        reached.append(one.page.evaluate("() => document.activeElement.dataset.part ?? document.activeElement.tagName"))
        one.page.keyboard.press("Tab")
    wanted = ["architecture", "d", "n", "n-slider", "outputs", "rank", "softmax"]
    assert [name for name in reached if name in wanted] == wanted
    slider = one.part("n-slider")
    slider.focus()
    one.page.keyboard.press("Home")
    assert one.part("n").input_value() == "1"
    one.page.keyboard.press("End")
    assert one.part("n").input_value() == "1000000" and slider.get_attribute("aria-valuetext") == "1,000,000 samples"
    tree = one.page.locator("#calculator").aria_snapshot()
    for line in (
        'combobox "Architecture"',
        'spinbutton "Dimension d of an input"',
        'spinbutton "Training samples n"',
        'slider "n, on a logarithmic scale"',
        'checkbox "Cross-entropy after a softmax (else squared loss)" [checked]',
        'img "Equations for each unknown on a logarithmic axis',
        "status",
        'rowheader "Everything"',
    ):
        assert line in tree, tree


def test_the_table_is_whole_between_two_sidebars(calculator):
    one = calculator(viewport={"width": 1280, "height": 900})
    for name in (*ARCHITECTURES, "own"):
        one.part("architecture").select_option(name)
        assert one.page.locator(".rc-scroll").evaluate("e => e.scrollWidth <= e.clientWidth"), name


LEAVING = """chart => {
  const box = chart.getBoundingClientRect();
  return [...chart.querySelectorAll("text")].filter((label) => {
    const place = label.getBoundingClientRect();
    return place.left < box.left - 4 || place.right > box.right + 4;
  }).map((label) => label.textContent);
}"""  # labels that the chart cuts, in one go, since it is drawn anew now and then


@pytest.mark.parametrize("width", [390, 320])
def test_it_fits_a_phone(calculator, width):
    one = calculator(viewport={"width": width, "height": 844}, has_touch=True, is_mobile=True)
    for name in (*ARCHITECTURES, "own"):
        one.part("architecture").select_option(name)
        assert one.page.evaluate("() => document.scrollingElement.scrollWidth <= innerWidth"), name
        if width == 390:
            table = one.page.locator(".rc-scroll")
            assert table.evaluate("e => e.scrollWidth <= e.clientWidth"), f"the table of {name} is cut"
        assert one.part("chart").evaluate(LEAVING) == [], name


def test_it_works_from_disk(browser):
    page = new_page(browser)
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((SITE / "limits" / "risk-calculator.html").as_uri())
    one = Calculator(page)
    one.part("architecture").select_option("two-layer")
    one.fill(n=100)
    p, equations = one.table()[0][1:3]
    assert p == "1,228,800" and float(equations) == pytest.approx(9 * 122880 / (100 * 3080), rel=0.02)
    assert complaints == []
    page.close()
