"""Interactive figures: what is stored, what the reader chooses, and the page that holds one."""

import base64
import builtins
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch

from reconlaw import plotting, schematics

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
PLOTLY = "application/vnd.plotly.v1+json"


def decoded(array):
    values = np.frombuffer(base64.b64decode(array["bdata"]), dtype=array["dtype"])
    return values.reshape([int(side) for side in array["shape"].split(",")]) if "shape" in array else values


def first(figure):
    return plotting.plotly_json(figure)["data"][0]


def test_long_arrays_are_stored_compactly_and_short_ones_in_clear():
    z = torch.rand(7, 9, generator=torch.Generator().manual_seed(0)).double()
    stored = first({"data": [{"type": "heatmap", "z": z, "x": np.arange(9)}]})
    assert stored["x"] == list(range(9))
    assert np.abs(decoded(stored["z"]) - z.numpy()).max() < 1e-4
    assert len(json.dumps(stored)) < 6 * 63 + 200


@pytest.mark.parametrize("size", [4, 400])
def test_rounding_error_does_not_reach_the_stored_figure(size):
    x = torch.linspace(-1, 1, size).double()
    noise = 1e-14 * torch.randn(size, generator=torch.Generator().manual_seed(0)).double()
    y = torch.where(x > 0, torch.exp(20 * x), 0.0)
    assert first({"data": [{"x": x, "y": y}]}) == first({"data": [{"x": x, "y": y * (1 + noise) + noise}]})
    assert first({"data": [{"x": x, "y": 0 * x}]}) == first({"data": [{"x": x, "y": noise}]})


def test_gaps_are_valid_json():
    figure = plotting.plotly_json({"data": [{"y": [1.0, None, 2.0]}, {"y": np.array([1.0, np.nan])}]})
    assert [trace["y"] for trace in figure["data"]] == [[1.0, None, 2.0], [1.0, None]]
    json.dumps(figure, allow_nan=False)
    assert first({"data": [{"y": torch.tensor([], dtype=torch.float64)}]})["y"] == []


def test_lists_of_settings_stay_lists():
    settings = {"label": "a", "method": "restyle", "args": [{"opacity": [0, 1] * 40}]}
    layout = {"updatemenus": [{"buttons": [settings]}]}
    stored = plotting.plotly_json({"data": [{"y": [1]}], "layout": layout})["layout"]
    assert stored["updatemenus"][0]["buttons"][0] == settings
    assert stored["height"] == 440 and stored["template"]["layout"]["colorway"] == list(plotting.COLOURS)


def test_a_plotly_figure_is_stored_like_its_dictionary():
    go = pytest.importorskip("plotly.graph_objects")
    trace = {"type": "scatter", "y": np.linspace(0, 1, 50)}
    figure = go.Figure(data=[trace], layout={"height": 300})
    assert plotting.plotly_json(figure) == plotting.plotly_json({"data": [trace], "layout": {"height": 300}})


@pytest.mark.parametrize(
    ("figure", "error", "message"),
    [
        ({}, ValueError, "nothing"),
        ({"data": [], "layout": {}}, ValueError, "data, layout"),
        ({"data": [{"y": [1]}], "axes": {}}, ValueError, "axes"),
        ({"data": [{"y": [1], "name": "$x_1$"}]}, ValueError, "HTML"),
        ({"data": [{"y": {1, 2}}]}, TypeError, "set"),
        ({"data": [{"y": object()}]}, TypeError, "object"),
    ],
)
def test_bad_figures_are_refused(figure, error, message):
    with pytest.raises(error, match=message):
        plotting.plotly_json(figure)


def test_misspelt_properties_are_refused():
    pytest.importorskip("plotly")
    with pytest.raises(ValueError, match="ytitle"):
        plotting.plotly_json({"data": [{"y": [1]}], "layout": {"ytitle": "y"}})


def test_plotly_is_not_needed(monkeypatch):
    real = builtins.__import__

    def without_plotly(name, *arguments, **options):
        if name.split(".")[0] == "plotly":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_plotly)
    assert first({"data": [{"y": [1, 2]}]})["y"] == [1, 2]


PAIRS = [({"size": s, "kind": k}, {"y": [s], "name": k}) for s in (1, 2, 3) for k in "ab"] + [({}, {"y": [0]})]


def shown(data):
    return [t["y"][0] for t in data if t.get("visible", True) and t.get("opacity", 1)]


def choose(figure, control, option):
    """What plotly's script does when the reader moves a control."""
    steps = figure["layout"][control][0]["steps" if control == "sliders" else "buttons"]
    (change,) = next(step["args"] for step in steps if step["label"] == option)
    for key, values in change.items():
        for trace, value in zip(figure["data"], values, strict=True):
            trace[key] = value


def test_slider_and_menu_combine_in_any_order():
    figure = plotting.choices(PAIRS, slider="size", menu="kind", start={"size": 2})
    assert shown(figure["data"]) == [2, 0]
    for control, option in (("updatemenus", "b"), ("sliders", "3"), ("updatemenus", "a"), ("sliders", "1")):
        choose(figure, control, option)
        (name,) = [t["name"] for t in figure["data"] if t.get("showlegend") and t["visible"]]
        assert shown(figure["data"])[-1] == 0 and len(shown(figure["data"])) == 2
    assert shown(figure["data"]) == [1, 0] and name == "a"
    hovered = [t["hoverinfo"] for t in figure["data"] if t.get("name") == "b"]
    assert set(hovered) == {"skip"}
    plotting.plotly_json(figure)


def test_one_control_alone():
    figure = plotting.choices(PAIRS[::2] + PAIRS[-1:], slider="size")
    assert shown(figure["data"]) == [1, 0, 0] and "updatemenus" not in figure["layout"]
    figure = plotting.choices(PAIRS[:2], menu="kind", start={"kind": "b"})
    assert figure["layout"]["updatemenus"][0]["active"] == 1
    assert [t["visible"] for t in figure["data"]] == [False, True]
    assert "visible" not in PAIRS[0][1]  # the traces given are left alone


def test_unknown_choices_are_named():
    with pytest.raises(ValueError, match=r"4 is no option of 'size'; traces belong to \[1, 2, 3\]"):
        plotting.choices(PAIRS, slider="size", start={"size": 4})
    with pytest.raises(ValueError, match="colour"):
        plotting.choices(PAIRS, menu="colour")


@pytest.fixture
def shown_bundle(monkeypatch):
    """What `interactive` hands to the notebook."""
    display = pytest.importorskip("IPython.display")
    sent = []
    monkeypatch.setattr(display, "display", lambda bundle, raw: sent.append(bundle))

    def show():
        still, ax = plt.subplots()
        ax.plot([1, 2])
        plotting.interactive({"data": [{"y": [1, 2]}]}, still)
        assert not plt.fignum_exists(still.number)
        return sent.pop()

    return show


def test_the_output_holds_figure_and_picture(shown_bundle):
    bundle = shown_bundle()
    assert set(bundle) == {PLOTLY, "image/png", "text/plain"}
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert bundle == shown_bundle()


def test_colab_gets_a_page_with_the_script_from_the_network(shown_bundle, monkeypatch):
    pytest.importorskip("plotly")
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    bundle = shown_bundle()
    assert set(bundle) == {"text/html"} and "https://cdn.plot.ly" in bundle["text/html"]
    assert len(bundle["text/html"]) < 20_000


@pytest.mark.parametrize("builder", ["html", "singlehtml"])
def test_the_site_has_the_script_where_a_figure_is_and_paper_the_picture(tmp_path, builder, shown_bundle):
    pytest.importorskip("plotly")
    import nbformat

    metadata = {"mystnb": {"image": {"alt": "two points"}, "figure": {"caption": "Two points.", "name": "fig-two"}}}
    output = nbformat.v4.new_output("display_data", shown_bundle())
    cell = nbformat.v4.new_code_cell("1", metadata=metadata, outputs=[output], execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# With"), cell])
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, tmp_path / "with.ipynb")
    (tmp_path / "index.md").write_text("# Without\n\nSee {ref}`two <fig-two>`.\n\n```{toctree}\nwith\n```\n")
    (tmp_path / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'book' / '_ext')!r})\n"
        "extensions = ['myst_nb', 'interactive_figures']\n"
        "nb_execution_mode, nb_kernel_rgx_aliases = 'off', {'.*': 'python3'}\n"
        f"html_static_path, html_theme = [{str(ROOT / 'book' / '_assets')!r}], 'basic'\n"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", builder, tmp_path, out]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    page = (out / ("with.html" if builder == "html" else "index.html")).read_text()
    assert 'alt="two points"' in page and "Two points." in page and 'id="fig-two"' in page
    if builder == "html":
        assert page.count("interactive.js") == 1 and page.count('<script type="application/json">') == 1
        assert "interactive.js" not in (out / "index.html").read_text()
        assert (out / "_static" / "plotly.min.js").stat().st_size > 1_000_000
    else:
        assert "application/json" not in page and not (out / "_static" / "plotly.min.js").exists()


def test_the_residual_of_the_schematic_is_orthogonal_to_the_plane_that_it_draws():
    axis = schematics.span_and_residual().axes[0]
    (foot, top), (one, two) = np.stack(axis.lines[0].get_data_3d()).T, axis.collections[1:3]
    arrows = [np.asarray(arrow._segments3d[0])[1] for arrow in (one, two)]
    assert np.linalg.norm(top - foot) > 0.5
    assert np.abs(np.stack(arrows) @ (top - foot)).max() < 1e-9
    plt.close("all")


@pytest.mark.parametrize(("n", "d", "p"), [(1, 2, 1), (2, 3, 6), (1, 4, 6)])
def test_the_schematic_of_the_count_has_a_box_for_each_unknown_and_each_equation(n, d, p):
    (axis,) = schematics.unknowns_and_equations(n, d, cases=(p,)).axes
    said = [text.get_text() for text in axis.texts]
    assert len(axis.patches) == d * n + p
    assert len(axis.lines) == min(d * n, p)
    assert f"$dn = {d * n}$" in said and f"$p = {p}$" in said
    assert sum(str(abs(p - d * n)) in text and "\n" in text for text in said) == (p != d * n)
    plt.close("all")


def test_the_schematic_of_the_attack_marks_what_is_private():
    axis = schematics.pipeline().axes[0]
    drawn = {text.get_text(): text.get_color() for text in axis.texts}
    private = {text for text, colour in drawn.items() if colour == schematics.HIDDEN}
    assert private == {"private\nsamples", "coefficients", "dashed, grey: private"}
    plt.close("all")


def test_the_schematic_of_layers_marks_each_box_by_its_role_and_refuses_others():
    row = [("$x$", "samples", "private"), ("$W_1$", "linear", "frozen"), ("$W_2$", "head", "read")]
    axis = schematics.layers({"one": row, "two": row[:2]}, over=(1,)).axes[0]
    boxes = [patch for patch in axis.patches if not hasattr(patch, "get_arrowstyle")]
    assert len(boxes) == 5 and len(axis.lines) == 2  # a line around a box in each row
    said = {text.get_text(): text.get_color() for text in axis.texts}
    assert {said["private"], said["trained and attacked"]} == {schematics.HIDDEN, schematics.KNOWN}
    assert "trained" not in said  # the key names what is drawn
    with pytest.raises(ValueError, match="roles"):
        schematics.layers({"one": [("$x$", "samples", "secret")]})
    with pytest.raises(ValueError, match="0 rows"):
        schematics.layers({})
    plt.close("all")


def test_the_curve_of_features_meets_the_plane_that_is_drawn_at_the_samples_alone():
    left, right = schematics.one_vector_or_the_span().axes
    curve, samples = (np.stack(line.get_data_3d(), axis=1) for line in right.lines)
    normal = np.cross(*samples)
    height = curve @ normal
    assert np.abs(samples @ normal).max() < 1e-12 and (np.diff(np.sign(height)) != 0).sum() == 2
    arrows = [np.asarray(arrow._segments3d[0])[1] for axis in (left, right) for arrow in axis.collections[1:]]
    assert len(arrows) == 4 and np.abs(np.stack(arrows) @ normal).max() < 1e-12  # θ and its like lie in the plane
    plt.close("all")
