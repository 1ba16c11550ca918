"""The zoo: pairs that come out the same again, attacks that see no truth, scores that only samples raise."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import zoo
import zoo_making
import zoo_roads
from helpers import BOOK, ROOT, code_cells
from hypothesis import given
from hypothesis import strategies as st
from zoo_pairs import build, load, load_all

import reconlaw as rl

SMALL = ("adam", "autocast", "batch-norm", "dropout", "family", "first-step", "lora-4", "records-regression")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    zoo_making.make(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def pair(made):
    return load(made / "pairs" / "lora-4")


@pytest.fixture(scope="module")
def truth(made):
    return np.load(made / "truth" / "lora-4.npz")["X"]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def test_a_zoo_is_written_again_bit_for_bit_whatever_else_is_made(made, tmp_path):
    again = zoo_making.make(tmp_path, ("lora-4", "dropout"))["pairs"]
    first = json.loads((made / "manifest.json").read_text())["pairs"]
    assert again == {name: first[name] for name in again}
    other = zoo_making.make(tmp_path, ("lora-4", "dropout"), seed=1)["pairs"]
    assert all(other[name][key] != again[name][key] for name in again for key in ("sha256", "truth"))


def test_a_pair_is_what_a_stranger_would_get(made):
    lora = load(made / "pairs" / "lora-4")
    files = {path.relative_to(lora.folder).as_posix() for path in lora.folder.rglob("*") if path.is_file()}
    of_peft = {
        f"{when}/adapter_{part}" for when in ("before", "after") for part in ("model.safetensors", "config.json")
    }
    assert files == {"pair.json", "base.pt"} | of_peft
    assert {key.split(".")[-2] for key in lora.state("after")} == {"lora_A", "lora_B"}
    for pair in load_all(made):
        said = (pair.folder / "pair.json").read_text()
        X = np.load(made / "truth" / f"{pair.name}.npz")["X"]
        model = pair.model().double()
        assert X.shape == (pair.n, pair.d) and bool(model(torch.rand(2, pair.d, dtype=torch.float64)).any())
        assert all(f"{value:.6g}" not in said for value in X.ravel() if value % 0.0625)  # no digit's grey, no record
    assert {pair.name for pair in load_all(made) if pair.knows["recipe"]} == set(SMALL[:4])


def test_an_architecture_can_name_layers_and_nothing_else():
    with pytest.raises(ValueError, match="names 'Module'; known are Linear"):
        build([["Module"]])


@pytest.mark.parametrize("name", SMALL[:4])
def test_a_known_recipe_makes_the_model_again_from_the_samples(made, name):
    pair, truth = load(made / "pairs" / name), np.load(made / "truth" / f"{name}.npz")
    X, y = (torch.tensor(truth[key]) for key in "Xy")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        again, other = pair.simulate(X, y).state_dict(), pair.simulate(0.9 * X, y).state_dict()
    finally:
        torch.set_num_threads(threads)
    after = pair.state("after")
    assert all(torch.equal(after[key], again[key]) for key in after)
    assert not all(torch.equal(after[key], other[key]) for key in after)


def test_an_unknown_recipe_cannot_be_simulated(made):
    with pytest.raises(ValueError, match="family: how it was trained is not known"):
        load(made / "pairs" / "family").simulate(torch.zeros(1, 64), torch.zeros(1))


def test_built_in_roads_run_where_there_is_no_truth(made, tmp_path):
    shutil.copytree(made / "pairs", tmp_path / "pairs")
    attacked = set()
    for pair in load_all(tmp_path, ["family", "first-step", "lora-4"]):
        for road, takes in zoo_roads.TAKES.items():
            if takes(pair) and road in ("varpro", "first layer", "audit"):
                X = zoo_roads.ROADS[road](pair, 100)["X"]
                assert X.shape[1] == pair.d
                attacked.add(road)
    assert attacked == {"varpro", "first layer", "audit"}
    with pytest.raises(FileNotFoundError):
        zoo.score(noise(2, 64), load(tmp_path / "pairs" / "lora-4"))


def test_every_road_takes_a_pair_and_every_pair_a_road(tmp_path):
    names = ("random-features", "first-lazy", "all-margin", "first-trained", "conv", "deletion-anew")
    zoo_making.make(tmp_path, names)
    taken = {name: set(zoo.takes(name, tmp_path)) for name in names}
    assert set().union(*taken.values()) == set(zoo_roads.ROADS) == set(zoo_roads.TAKES) == set(zoo_roads.STEPS)
    assert taken["first-lazy"] == {"first layer"}
    assert taken["all-margin"] == {"varpro", "span", "sparse", "first layer", "NTK", "KKT", "audit"}
    assert taken["first-trained"] - taken["all-margin"] == {"replay"} and "KKT" not in taken["first-trained"]
    assert taken["random-features"] == {"varpro", "span", "sparse", "audit"}
    assert taken["conv"] == {"varpro", "span", "audit"} and taken["deletion-anew"] == {"varpro", "span"}


def test_the_truth_scores_full_marks(pair, truth):
    s = zoo.score(truth, pair)
    n = len(truth)
    assert (s["samples"], s["rows"], s["below_1e-2"], s["within_0.1"], s["ssim_above_0.9"]) == (n,) * 5
    assert s["precision"] == s["recall"] == 1 and s["claimed"] == s["claimed_wrong"] == 0 and s["worst_error"] == 0


@given(seed=st.integers(0, 1000), extra=st.integers(0, 20))
def test_the_order_of_rows_means_nothing_where_confidences_are_given(pair, truth, seed, extra):
    rng = np.random.default_rng(seed)
    rows = np.concatenate([truth[: rng.integers(1, len(truth) + 1)] + 0.005 * rng.random(64), rng.random((extra, 64))])
    trust, claims = rng.permutation(len(rows)), rng.random(len(rows)) < 0.5
    order = rng.permutation(len(rows))
    one = zoo.score({"X": rows, "claims": claims, "confidences": trust}, pair)
    two = zoo.score({"X": rows[order], "claims": claims[order], "confidences": trust[order]}, pair)
    assert one == two
    if len(rows) <= len(truth):  # every row counts, whatever the order
        assert zoo.score(rows, pair) == zoo.score(rows[order], pair)


def test_a_copy_counts_once(pair, truth):
    s = zoo.score(np.repeat(truth[:1], len(truth), 0), pair, claims=np.ones(len(truth)))
    assert s["below_1e-2"] == s["ssim_above_0.9"] == 1 and s["recall"] == zoo.common.short(1 / len(truth))
    assert s["claimed"] == len(truth) and s["claimed_wrong"] == len(truth) - 1


def test_flooding_does_not_help(pair, truth):
    n = len(truth)
    flood = np.concatenate([noise(1000, 64), truth])
    assert zoo.score(flood, pair)["below_1e-2"] == 0
    assert zoo.score(flood, pair)["rows"] == 1000 + n
    first = zoo.score(np.concatenate([truth[:2], noise(1000, 64)]), pair)
    assert first["below_1e-2"] == 2 and first["precision"] == zoo.common.short(2 / n)
    best = zoo.score(flood, pair, confidences=np.r_[np.zeros(1000), np.ones(n)])
    assert best["below_1e-2"] == n
    assert zoo.score(flood, pair, confidences=np.ones(1000 + n))["below_1e-2"] == 0  # equal ones: the first count


def test_claims_are_wrong_where_no_sample_of_their_own_is_near(pair, truth):
    rows = np.concatenate([truth[:2], noise(2, 64)])
    s = zoo.score(rows, pair, claims=[True, False, True, False])
    assert s["below_1e-2"] == 2 and (s["claimed"], s["claimed_wrong"]) == (2, 1)
    beyond = np.concatenate([noise(len(truth), 64), truth[:1]])  # a right row that does not count is vouched for
    s = zoo.score(beyond, pair, claims=np.arange(len(beyond)) == len(truth))
    assert (s["claimed"], s["claimed_wrong"]) == (1, 1)
    assert zoo.score(truth * 1.02, pair, claims=np.ones(len(truth)))["claimed_wrong"] == len(truth)


def test_nothing_and_what_is_not_finite_score_nothing(pair, truth):
    for rows in (np.zeros((0, 64)), np.full((3, 64), np.nan)):
        s = zoo.score(rows, pair)
        assert s["below_1e-2"] == s["within_0.1"] == s["ssim_above_0.9"] == 0 and s["worst_error"] is None
    mixed = truth.copy()
    mixed[0] = np.inf
    assert zoo.score(mixed, pair)["below_1e-2"] == len(truth) - 1


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"X": noise(3)}, r"lora-4: estimates have shape \(3,\); expected \(rows, 64\)"),
        ({"X": noise(3, 63)}, r"expected \(rows, 64\)"),
        ({"X": noise(3, 64), "claims": [True]}, r"claims have shape \(1,\); expected \(3,\), one a row"),
        ({"X": noise(3, 64), "confidences": [1.0, np.nan, 0.0]}, "confidences must be finite"),
    ],
)
def test_estimates_that_do_not_fit_are_refused(pair, given, match):
    with pytest.raises(ValueError, match=match):
        zoo.score(given, pair)


def test_records_have_no_likeness(made):
    pair = load(made / "pairs" / "records-regression")
    truth = np.load(made / "truth" / "records-regression.npz")["X"]
    s = zoo.score(truth, pair)
    assert s["below_1e-2"] == 10 and s["ssim_above_0.9"] is None


def attack(pair):
    """A function of a user's own: the adapter's change, in the box."""
    if pair.adapter is None:
        return None
    key = next(key for key in pair.state("after") if "lora_A" in key)
    theta = (pair.state("after")[key] - pair.state("before")[key]).double()
    features = rl.below(pair.model(), "2", (pair.d,), device="cpu")
    return rl.reconstruct(theta, features, pair.n, inputs=pair.inputs(), max_seconds=None, max_steps=2000).X


def test_a_users_own_function_is_run_before_any_truth_is_opened(made):
    asked, opened, load_file = [], [], np.load

    def watched(pair):
        assert not opened
        asked.append(pair.name)
        return attack(pair)

    zoo.np.load = lambda path, *args: opened.append(path) or load_file(path, *args)
    try:
        scores = zoo.run(watched, load_all(made, ["adam", "lora-4"]))
    finally:
        zoo.np.load = load_file
    assert asked == ["adam", "lora-4"] and scores["adam"]["below_1e-2"] == scores["adam"]["rows"] == 0
    assert scores["lora-4"]["below_1e-2"] >= 4


def command(*words):
    ran = [sys.executable, ROOT / "benchmarks" / "zoo.py", *map(str, words)]
    return subprocess.run(ran, capture_output=True, text=True)


def test_three_commands_enter(tmp_path):
    ran = command("make", tmp_path / "zoo", "--pairs", "family", "lora-4")
    assert ran.returncode == 0 and ran.stdout.startswith("2 pairs in"), ran.stderr
    (tmp_path / "mine").mkdir()
    truth = np.load(tmp_path / "zoo" / "truth" / "family.npz")["X"]
    np.savez(tmp_path / "mine" / "family.npz", X=truth[::-1], claims=np.ones(4))
    ran = command("score", tmp_path / "mine", "--zoo", tmp_path / "zoo", "--json", tmp_path / "scores.json")
    assert ran.returncode == 0, ran.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["family"]["below_1e-2"], scores["lora-4"]["rows"]) == (4, 0)
    assert ran.stdout.splitlines()[-1].split() == ["all", "4/10", "4", "0"]
    mine = tmp_path / "mine.py"
    guess = "return {'X': torch.full((pair.n, pair.d), 0.5), 'claims': [True] * pair.n}"
    mine.write_text(f"import torch\ndef guess(pair):\n    {guess}\n")
    ran = command("run", f"{mine}:guess", "--zoo", tmp_path / "zoo")
    assert ran.stdout.splitlines()[-1].split() == ["all", "0/10", "10", "10"], ran.stderr


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("score", "nowhere"), "holds no pairs"),
        (("run", "nowhere.py:f"), "must read path/to/file.py:function"),
        (("run", "no"), "must read path/to/file.py:function"),
    ],
)
def test_commands_say_what_is_missing(tmp_path, made, words, match):
    ran = command(*words, "--zoo", made if words[0] == "run" else tmp_path)
    assert ran.returncode == 1 and match in ran.stderr and "Traceback" not in ran.stderr


def test_the_published_tables_are_the_results():
    """Each row of the page's tables, made anew from the cells of the results file."""
    results = json.loads((ROOT / "benchmarks" / "results" / "zoo.json").read_text(encoding="utf-8"))
    told = {}
    for cell in results["cells"]:
        r = cell["result"]
        wrong = f", {r['claimed_wrong']} wrong" if r["claimed_wrong"] else ""
        text = "–" if r["refused"] else f"{r['below_1e-2']}" + (f" ({r['claimed']}{wrong})" if r["claimed"] else "")
        told[cell["settings"]["pair"], cell["settings"]["road"]] = text
    shown = {}
    for cell in code_cells(BOOK / "zoo.ipynb"):
        if cell.source.startswith("def show") or cell.source.startswith("show("):
            (text,) = [output["data"]["text/markdown"] for output in cell.outputs]
            head, _, *lines = [[part.strip() for part in line.split("|")[1:-1]] for line in text.splitlines()]
            for name, _, *values in lines:
                shown |= {
                    (name.split(":")[0], road): value for road, value in zip(head[2:], values, strict=True) if value
                }
    assert shown == told
    assert {pair for pair, _ in told} == set(zoo_making.ZOO)
    assert zoo.summarise(results["cells"]) == results["summary"]
