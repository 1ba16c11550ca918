"""Every benchmark runs at its tiny size, writes what the book reads, and goes on where it was interrupted."""

import importlib
import itertools
import json
import math
import signal
import subprocess
import sys
import types

import common
import images
import pytest
import race
import torch
from helpers import ROOT

import reconlaw as rl

SCRIPTS = ("race", "limit", "images", "kernels", "sparse", "hard_cases", "roads", "noise", "normalisation", "depth")
SCRIPTS += ("inputs", "span", "partial", "defences", "uniqueness", "threads", "adapters", "first_layer", "honesty")
SCRIPTS += ("audits", "nulls", "precision", "state_evolution", "zoo", "honesty_inputs", "recipes", "batches")
SCRIPTS += ("simudy", "many")
SHOWN = {
    "race": {"contestant", "line", "sets", "crossed", "median", "budget"},
    "limit": {"method", "activation", "d", "n", "ratio", "sets", "recovered", "interval", "nine_in_ten_within_0.1"},
    "images": {
        "activation",
        "seconds",
        "recovered",
        "worst_error",
        "least_psnr",
        "least_ssim",
        "V_bytes",
        "peak_bytes",
    },
    "kernels": {"kind", "pass", "best", "gflops", "matmul_gflops", "share", "dtype", "lifted", "threads"},
    "sparse": {"n", "ratio", "sets", "n_exact", "recovered", "interval", "n_found", "median_seconds"},
    "noise": {"data", "what", "level", "noise", "sets", "samples", "median_error", "predicted_median", "label_error"},
    "normalisation": {"case", "what", "rate", "step", "off_span", "samples", "median_error", "predicted_median"},
    "networks": {"what", "n", "outputs", "ratio", "sets", "sets_below_1e-4", "worst_errors", "replayed_worst_errors"},
    "roads": {"training", "road", "n", "p", "knows", "samples", "below_0.1", "ssim_above_0.9", "median_error", "loss"},
    "partial": {"case", "level", "ratio", "what", "sets", "recovered", "interval", "median_error", "median_loss"},
    "defences": {"defence", "level", "sets", "accuracy", "error", "within_0.1", "below_1e-2", "epsilon", "local_error"},
    "uniqueness": {"family", "activation", "n", "d", "excess", "p", "draws", "solutions", "draws_with_others"},
    "depth": {"activation", "scaled", "blocks", "ratio", "sets", "recovered", "median_weakest", "median_steps"},
    "hard_cases": {"case", "what", "sets", "sets_below_1e-6", "samples", "samples_below_1e-2", "median_worst_error"},
}
SHOWN["silent"] = SHOWN["roads"]
SHOWN["inputs"] = {"what", "body", "pretrained", "dtype", "in", "ratio", "whole", "claimed_wrong", "samples_wrong"}
SHOWN["span"] = {"n", "outputs", "in", "sets", "samples", "found", "false", "segments", "median_seconds"}
SHOWN["span"] |= {"recovered", "median_passes", "max_steps"}
SHOWN["many"] = {
    "activation",
    "n",
    "d",
    "p",
    "sets",
    "recovered",
    "median_passes",
    "median_seconds",
    "median_peak_bytes",
}
SHOWN["threads"] = {"n", "d", "p", "busy", "load", "best", "one_wall", "every_wall", "chosen_wall", "holds"}
SHOWN["adapters"] = {"what", "n", "sets", "samples", "whole", "held_wrong", "worst_error", "least_digits"}
SHOWN["first_layer"] = {"case", "data", "n", "width", "sets", "samples_below_1e-2", "claimed", "wrong", "worst_error"}
SHOWN["first_layer"] |= {"by_silence"}
SHOWN["recipes"] = {
    "recipe",
    "n",
    "p",
    "steps",
    "sets",
    "sets_below_1e-2",
    "samples",
    "claimed",
    "wrong",
    "worst_error",
}
SHOWN["batches"] = {"case", "n", "p", "sets", "samples", "below_1e-6", "claimed", "wrong", "worst_error", "starts"}
SHOWN["simudy"] = {"activation", "road", "n", "p", "sets", "samples", "below_1e-6", "claimed", "wrong", "worst_error"}
SHOWN["honesty"] = {"kind", "problems", "samples_called", "samples_wrong", "sets_called", "sets_wrong", "sets_right"}
SHOWN["audits"] = {"told", "recipe", "inputs", "audits", "samples", "called", "false", "returned", "whole"}
SHOWN["nulls"] = {"case"}
SHOWN["precision"] = {"training", "rate", "kind", "audits", "samples", "called", "false", "shown", "median_over_stated"}
SHOWN["state_evolution"] = {"kind", "coefficients", "activation", "n"}
SHOWN["zoo"] = {
    "pair",
    "road",
    "what",
    "d",
    "inputs",
    "trained",
    "loss",
    "recipe",
    "samples",
    "below_1e-2",
    "within_0.1",
}
SHOWN["zoo"] |= {"ssim_above_0.9", "claimed", "claimed_wrong", "refused", "worst_error", "seconds", "max_steps"}
SHOWN["honesty_inputs"] = SHOWN["honesty"]
SHOWN["foundation"] = SHOWN["growth"] = SHOWN["limit-digits"] = SHOWN["limit"]


HERE = ("--threads", "1", "--device", "cpu", "--out")  # two workers with two threads each wait for one another


def run_benchmark(script, folder, *options, **popen):
    command = [sys.executable, ROOT / "benchmarks" / f"{script}.py", "--tiny", *HERE, folder]
    return subprocess.run([*command, *options], capture_output=True, text=True, **popen)


def called(script, folder, options, monkeypatch):
    """As if this process had been started with these arguments."""
    given = ["--tiny", "--jobs", "1", *HERE, str(folder)]
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *given, *options])


def run_here(script, folder, options, monkeypatch):
    """The same in this process, which has imported torch already."""
    threads = torch.get_num_threads()
    called(script, folder, options, monkeypatch)
    try:
        importlib.import_module(script).main()
    finally:
        torch.set_num_threads(threads)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "script",
    [
        *SCRIPTS,
        "limit --foundation",
        "limit --growth",
        "limit --dataset digits --ratios 2",
        "networks --what two-layer",
        "roads --roads silent",
    ],
)
def test_tiny_run_writes_what_the_book_reads(script, tmp_path, monkeypatch):
    script, *options = script.split()
    if script in ("limit", "zoo") and not options:  # the commands themselves
        ran = run_benchmark(script, tmp_path, "--jobs", "2" if script == "limit" else "1")
        assert ran.returncode == 0, ran.stderr
    else:
        run_here(script, tmp_path, options, monkeypatch)
    (path,) = tmp_path.glob("*.json")
    name, results = path.stem, read(path)
    names = {"limit --foundation": "foundation", "limit --dataset digits --ratios 2": "limit-digits"}
    names |= {"limit --growth": "growth", "roads --roads silent": "silent"}
    assert name == names.get(" ".join([script, *options]), script)
    assert results["benchmark"] == name and results["commands"] and len(results["codes"]) == 1
    assert {"cpu", "cores", "gpu", "processes", "threads", "python", "torch", "reconlaw", "commit", "date"} <= set(
        results["environment"]
    )
    assert results["cells"] and all({"settings", "result", "code"} <= set(cell) for cell in results["cells"])
    assert results["summary"] and all(SHOWN[name] <= set(row) for row in results["summary"])
    assert str(tmp_path) not in path.read_text() and str(ROOT) not in path.read_text()


def test_a_set_recovered_in_part_is_not_counted_as_claimed():
    """Of three samples one is called recovered and right, one known roughly, one off and said to be unresolved."""
    import honesty
    import inputs

    from reconlaw.attack.result import Flag, Status

    X = torch.eye(3, dtype=torch.float64)
    made = types.SimpleNamespace(X=X.clone(), sign_identifiable=True, converged=True, status=Status.IN_PART)
    made.X[2] = 2 * X[2]
    made.flags = (Flag.RECOVERED, Flag.ROUGH, Flag.UNRESOLVED)
    counted = {"samples": 3, "below_1e-2": 2, "within_0.1_up_to_sign": 2, "worst_error": 1.0, "seconds": 1.0}
    row = inputs.figures([counted | honesty.judged(made, X)], {})
    assert (row["claimed"], row["claimed_wrong"], row["samples_called"], row["samples_wrong"]) == (0, 0, 1, 0)
    made.flags, made.status = (Flag.RECOVERED,) * 3, Status.RECOVERED
    row = inputs.figures([counted | honesty.judged(made, X)], {})
    assert (row["claimed"], row["claimed_wrong"], row["samples_called"], row["samples_wrong"]) == (1, 1, 3, 1)


def test_photographs_lie_in_their_box_behind_a_head_of_ten_classes(tmp_path):
    import inputs

    path = tmp_path / "photographs.bin"  # a record of each class, of random bytes
    records = torch.randint(256, (10, 3073), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    records[:, 0] = torch.arange(10)
    path.write_bytes(records.numpy().tobytes())
    s = {"n": 10, "seed": 0, "dtype": "float32", "steps": 5, "device": "cpu", "root": path}
    theta, features, X, box = inputs.photographs(s)
    assert theta.shape == (10, 16_384) and features.d == 3072
    assert float(torch.linalg.lstsq(features(X).T, theta.T).residuals.sum()) < 1e-10 * float(theta.square().sum())
    low, high = box.bounds(X)
    torch.testing.assert_close(255 * (X - low) / (high - low), records[:, 1:].double(), rtol=0, atol=1e-3)
    grey = (high - low) / 255  # every pixel off by a level, channel by channel
    assert inputs.least_psnr(X + grey, X) == pytest.approx(20 * math.log10(255))
    missing = run_benchmark("inputs", tmp_path, "--what", "cifar", "--cifar", tmp_path / "none.bin", "--jobs", "1")
    assert missing.returncode == 1 and "does not exist; give a folder, an archive or a .bin file" in missing.stderr


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A benchmark of three cells in this process: ``bench(*options, fail=k)`` runs it, and returns what it wrote."""
    threads = torch.get_num_threads()

    def run(*options, fail=None, interrupt=None):
        def work(settings):
            run.worked.append(settings["k"])
            if settings["k"] == fail:
                raise RuntimeError("a disk is full")
            if settings["k"] == interrupt:
                raise KeyboardInterrupt
            return {"twice": 2 * settings["k"]}

        def summarise(cells):
            return [{"sum": sum(cell["result"]["twice"] for cell in cells)}]

        called("bench", tmp_path, options, monkeypatch)
        run.worked = []
        common.run("bench", common.parse(common.parser("x")), [{"k": k} for k in range(3)], work, summarise)
        return read(run.path)

    run.path, run.store = tmp_path / "bench.json", tmp_path / ".bench.sqlite"
    yield run
    torch.set_num_threads(threads)


def edit(path, **environment):
    """Put a mark into the first cell of a results file, and change its environment."""
    results = read(path)
    results["cells"][0]["result"] = {"twice": 1000}
    results["environment"] |= environment
    path.write_text(json.dumps(results))


def test_a_rerun_computes_only_what_is_missing(bench, capsys):
    first = bench()
    assert bench.worked == [0, 1, 2] and first["summary"] == [{"sum": 6}]
    edit(bench.path)
    bench.path.write_text(json.dumps(read(bench.path) | {"cells": read(bench.path)["cells"][:2]}))
    bench.store.unlink()  # a fresh clone has the results file alone
    again = bench()
    assert bench.worked == [2] and again["summary"] == [{"sum": 1006}]
    command = "python benchmarks/bench.py --tiny --jobs 1 --threads 1 --device cpu --out PATH"
    assert again["commands"] == first["commands"] == [command]
    assert "3 cells, 2 of them there already" in capsys.readouterr().err
    fresh = bench("--fresh")
    assert bench.worked == [0, 1, 2] and fresh["summary"] == [{"sum": 6}]


def test_store_and_results_file_make_one(bench):
    """What either holds is not computed again; where they differ, what is published counts."""
    first = bench()
    cut = first | {"cells": first["cells"][1:]}
    bench.path.write_text(json.dumps(cut))
    assert bench()["cells"] == first["cells"] and bench.worked == []
    edit(bench.path)
    assert bench()["summary"] == [{"sum": 1006}] and bench.worked == []
    bench.path.unlink()  # killed before the first writing, say
    assert bench()["summary"] == [{"sum": 1006}] and bench.worked == []
    bench.store.write_text("my notes")
    with pytest.raises(SystemExit, match="is damaged, or no SQLite file"):
        bench()
    assert bench.store.read_text() == "my notes"


def test_an_interrupted_benchmark_is_published_and_goes_on(bench):
    with pytest.raises(SystemExit, match="interrupted; the same command goes on"):
        bench(interrupt=1)
    assert [cell["settings"]["k"] for cell in read(bench.path)["cells"]] == [0]
    assert bench()["summary"] == [{"sum": 6}] and bench.worked == [1, 2]


def test_equal_numbers_are_one_setting():
    cells = [{"settings": {"ratio": ratio, "seed": seed}} for seed, ratio in enumerate((2, 1.5, 2.0))]
    assert [(s["ratio"], len(members)) for s, members in common.groups(cells, ("ratio",))] == [(1.5, 1), (2, 2)]


def test_cells_of_another_state_of_the_code_are_announced(bench, monkeypatch):
    bench()
    monkeypatch.setattr(common, "CODE", "edited")
    with pytest.warns(UserWarning, match="3 of the finished cells are of another state of the code"):
        bench()
    assert bench.worked == []


def test_results_of_another_version_or_machine_are_not_mixed_in(bench):
    bench()
    edit(bench.path, reconlaw="0.0.1")
    assert bench()["summary"] == [{"sum": 6}] and bench()["environment"]["reconlaw"] == rl.__version__
    edit(bench.path, cpu="an abacus")
    with pytest.raises(SystemExit, match="measured elsewhere .cpu an abacus"):
        bench()
    assert read(bench.path)["cells"][0]["result"] == {"twice": 1000}
    for broken in ('{"cells": [', "[]", "{}"):
        bench.path.write_text(broken)
        with pytest.raises(SystemExit, match="is no results file"):
            bench()
        assert bench.path.read_text() == broken


def test_results_whose_budgets_were_seconds_are_not_mixed_with_steps(bench):
    bench()
    old = read(bench.path)
    old["cells"][0]["settings"]["budget"] = 3.0
    bench.path.write_text(json.dumps(old))
    with pytest.raises(SystemExit, match="budgets in seconds; --fresh starts it anew"):
        bench()
    assert read(bench.path) == old
    assert bench("--fresh")["summary"] == [{"sum": 6}]


@pytest.mark.parametrize("path", sorted(common.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_published_results_end_on_steps_but_for_the_race_which_is_about_seconds(path):
    results = read(path)
    assert results["benchmark"] == "race" or not any("budget" in cell["settings"] for cell in results["cells"])


def test_an_attack_ends_on_no_seconds_but_given_ones(problem):
    easy = problem()
    options = {"max_steps": 2_000, "clock": itertools.count(step=1000).__next__}  # every look costs 1000 s
    given = easy.theta, easy.features, easy.n
    assert common.attack(*given, **options).converged
    assert not common.attack(*given, **options, max_seconds=1).converged


def test_rows_of_a_summary():
    settings = [{"k": 2, "seed": 0}, {"k": 1, "seed": 0}, {"k": 2, "seed": 1}]
    results = [{"samples": 3, "good": good, "x": x} for good, x in ((3, 1.0), (2, None), (1, 2.0))]
    cells = [{"settings": s, "result": r} for s, r in zip(settings, results, strict=True)]

    def figures(results, settings):
        made = {"twice": 2 * settings["k"], "whole": common.whole(results, "good")}
        return made | common.medians(results, ("x",), "median_")

    rows = [{"k": 1, "twice": 2, "whole": 0, "median_x": None}, {"k": 2, "twice": 4, "whole": 1, "median_x": 1.5}]
    assert common.table(cells, ("k",), figures) == rows
    assert common.table(cells, ("k",), figures, lambda row: -row["k"]) == rows[::-1]


def test_a_failing_cell_is_recorded_and_tried_again(bench, capsys):
    with pytest.raises(SystemExit):
        bench(fail=1)
    content = read(bench.path)
    assert content["summary"] == [{"sum": 4}] and content["cells"][1]["error"] == "RuntimeError: a disk is full"
    assert "a disk is full" in capsys.readouterr().err
    content = bench()
    assert bench.worked == [1] and content["summary"] == [{"sum": 6}] and "error" not in content["cells"][1]


def test_a_killed_write_leaves_the_old_results(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    common.write_json(path, {"benchmark": "b", "summary": [], "cells": [{"k": 1}]})

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(common.os, "fsync", full)
    with pytest.raises(OSError):
        common.write_json(path, {"benchmark": "b", "summary": [], "cells": [{"k": 2}]})
    assert read(path)["cells"] == [{"k": 1}] and list(tmp_path.iterdir()) == [path]


def test_ctrl_c_is_no_measurement(problem, monkeypatch):
    """The attack returns the best so far on Ctrl-C; a benchmark must not book that as a result."""
    from reconlaw.attack.run import Run

    def interrupt(run, U, loss, note=""):
        run.best, run.best_loss = U.clone(), loss
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "record", interrupt)
    easy = problem()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            common.attack(easy.theta, easy.features, easy.n, start="random")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_race_scores_what_the_attack_would_have_returned(problem):
    easy = problem()
    with race.watched() as improvements:
        options = {"start": "random", "max_seconds": None, "clock": itertools.count().__next__}
        result = rl.reconstruct(easy.theta, easy.features, easy.n, **options)
    assert [s + 1 for s, _ in improvements] == [s for s, *_ in result.history]  # one look at the clock later
    across = [race.crossed(rl.match(X, easy.X)) for _, X in improvements]
    assert not across[0]["near"] and across[-1]["near"]
    assert race.crossed(rl.match(result.X, easy.X)) == {"near": True, "exact": True}
    assert race.crossed(rl.match(-result.X, easy.X)) == {"near": True, "exact": False}


def test_medians_of_censored_times():
    assert race.censored_median([1.0, 3.0, 2.0], 9.0) == {"seconds": 2.0, "at_least": False}
    assert race.censored_median([1.0, None, 2.0], 9.0) == {"seconds": 2.0, "at_least": False}
    assert race.censored_median([None, 1.0, None], 9.0) == {"seconds": 9.0, "at_least": True}
    assert race.censored_median([1.0, None], 9.0)["at_least"]


def test_race_ratios_against_varpro():
    def cell(contestant, seed, near):
        settings = {
            "contestant": contestant,
            "seed": seed,
            "budget": 60.0,
            "d": 9,
            "n": 2,
            "p": 180,
            "activation": "relu",
        }
        return {"settings": settings, "result": {"times": {"near": near, "exact": None}}}

    cells = [cell("varpro", 0, 1.0), cell("varpro", 1, 2.0), cell("sgd", 0, 30.0), cell("sgd", 1, None)]
    rows = {(row["contestant"], row["line"]): row for row in race.summarise(cells)}
    sgd = rows["sgd", "near"]
    assert sgd["crossed"] == 1 and sgd["median"] == {"seconds": 60.0, "at_least": True}
    assert sgd["ratio_of_medians"] == {"value": 40.0, "at_least": True}
    assert [(r["value"], r["at_least"]) for r in sgd["ratios"]] == [(30.0, False), (30.0, True)]
    assert "ratios" not in rows["sgd", "exact"] and "ratios" not in rows["varpro", "near"]


def test_wilson_intervals_match_the_formula():
    z = 1.959963984540054
    for k, n in ((0, 20), (7, 20), (19, 20), (20, 20)):
        centre = (k + z * z / 2) / (n + z * z)
        half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
        assert common.wilson(k, n) == pytest.approx([centre - half, centre + half], abs=1e-4)


@pytest.mark.parametrize(
    ("options", "threads"),
    [((), 1), (("--jobs", "1"), 2), (("--jobs", "1", "--threads", "1"), 1), (("--threads", "3"), 3)],
)
def test_threads_are_every_core_of_a_lone_process_or_as_told(options, threads, monkeypatch):
    monkeypatch.setattr(common, "cores", lambda: 2)
    monkeypatch.setattr(sys, "argv", ["benchmarks/race.py", "--device", "cpu", *options])
    args = common.parse(common.parser("A benchmark."))
    assert args.threads == common.environment(args)["threads"] == threads
    monkeypatch.setattr(sys, "argv", ["benchmarks/race.py", "--device", "cpu", "--threads", "0"])
    with pytest.raises(SystemExit):
        common.parse(common.parser("A benchmark."))


def test_no_place_on_disk_enters_the_results(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/a/b/images.py", "--cifar", "/my/own", "--out=/my/other", "--fresh"])
    assert common.command() == "python benchmarks/images.py --cifar PATH --out=PATH"


def test_images_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["images.py", "--cifar", str(tmp_path / "nowhere"), "--device", "cpu"])
    with pytest.raises(SystemExit, match="no images: .*does not exist"):
        images.main()
