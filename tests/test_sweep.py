"""A sweep keeps what it has finished, whatever ends it, and computes no finished cell again."""

import contextlib
import functools
import json
import math
import os
import pickle
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, heed_interrupts
from hypothesis import given
from hypothesis import strategies as st
from joblib import parallel_config

import reconlaw as rl
from reconlaw.sweeps import claims
from reconlaw.sweeps.store import Store, cell_key


def square(s):
    """The square of k; leaves a line in the file ``log`` for every time it is computed."""
    if "log" in s:
        with open(s["log"], "a") as log:
            log.write(f"{s['k']}\n")
    time.sleep(s.get("seconds", 0))
    return {"square": s["k"] ** 2}


def where(s):
    return {"pid": os.getpid(), "threads": torch.get_num_threads()}


def bad_at_two(s):
    if s["k"] == 2:
        raise ArithmeticError("two is too much")
    return {"k": s["k"]}


def fatal_at_two(s):
    if s["k"] == 2:
        os._exit(1)
    return {"k": s["k"]}


def squares(records):
    return [record["result"]["square"] for record in records]


def quietly(*args, **options):
    return rl.sweep(*args, **({"progress": False, "jobs": 1} | options))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "deeper" / "cells.sqlite"


def held(path, name):
    with Store(path) as kept:
        return list(kept.records(name, "").values())


def computed(log):
    return [int(line) for line in Path(log).read_text().split()] if Path(log).exists() else []


def test_records_come_in_the_order_of_the_cells(store):
    records = quietly(square, ({"k": k} for k in (3, 1, 2)), store)
    assert squares(records) == [9, 1, 4] and [r["settings"] for r in records] == [{"k": 3}, {"k": 1}, {"k": 2}]
    assert all(set(r) == {"settings", "result", "code", "seconds"} and r["seconds"] >= 0 for r in records)
    assert quietly(square, [{"k": 1}], store) == records[1:2]
    assert quietly(square, [], store) == quietly(square, []) == []


def test_grid_is_the_product_of_its_axes():
    assert rl.grid(n=[5, 10], seed=range(2)) == [
        {"n": 5, "seed": 0},
        {"n": 5, "seed": 1},
        {"n": 10, "seed": 0},
        {"n": 10, "seed": 1},
    ]
    assert rl.grid() == [{}] and rl.grid(n=[]) == []


@pytest.mark.parametrize("axes", [{"name": "relu"}, {"n": 5}, {"n": [1], "k": None}])
def test_an_axis_of_one_value_is_named(axes):
    with pytest.raises(TypeError, match=r"is one value; an axis is a list of them: \w+=\["):
        rl.grid(**axes)


def test_work_that_writes_to_its_settings_does_not_change_the_record(store):
    (record,) = rl.sweep(
        lambda s: {"k": s.pop("k")} | s, [{"k": 0, "j": [1]}], store, name="pop", jobs=1, progress=False
    )
    assert record["settings"] == {"k": 0, "j": [1]}
    with Store(store) as kept:
        assert next(iter(kept.records("pop", "").values()))["settings"] == {"k": 0, "j": [1]}


def test_finished_cells_are_never_computed_again(store, tmp_path):
    log = str(tmp_path / "log")
    cells = rl.grid(k=range(3), log=[log])
    first = quietly(square, cells, store)
    assert quietly(square, cells, store) == first
    assert squares(quietly(square, rl.grid(k=range(5), log=[log]), store)) == [0, 1, 4, 9, 16]
    assert computed(log) == [0, 1, 2, 3, 4]
    quietly(square, cells, store, fresh=True)
    assert computed(log) == [0, 1, 2, 3, 4, 0, 1, 2]
    quietly(square, cells)
    assert computed(log)[8:] == [0, 1, 2]


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_every_backend_gives_what_one_process_gives(backend, store):
    cells = rl.grid(k=range(5))
    with parallel_config(backend):
        parallel = quietly(square, cells, store, jobs=2)
    assert squares(parallel) == squares(quietly(square, cells)) and len(held(store, f"{__name__}.square")) == 5


def test_workers_are_other_processes_of_one_thread_each():
    threads = torch.get_num_threads()
    records = quietly(where, rl.grid(k=range(4)), jobs=2)
    assert os.getpid() not in {r["result"]["pid"] for r in records}
    assert {r["result"]["threads"] for r in records} == {1}
    (alone,) = quietly(where, [{}])
    assert alone["result"] == {"pid": os.getpid(), "threads": threads}
    (two,) = quietly(where, [{}], threads=2)
    assert two["result"]["threads"] == 2 and torch.get_num_threads() == threads


def test_isolated_cells_have_a_process_each():
    records = quietly(where, rl.grid(k=range(2)), isolate=True)
    assert len({r["result"]["pid"] for r in records} | {os.getpid()}) == 3


SCRIPT = """
import os, sys, time, reconlaw as rl

def work(s):
    time.sleep(0.15)
    while s["k"] > 20 and not os.path.exists("again"):
        time.sleep(0.05)
    with open("log", "a") as log:
        log.write(f"{s['k']}\\n")
    return {"k": s["k"]}

def done(record):
    print(record["result"]["k"], flush=True)

rl.sweep(work, rl.grid(k=range(30)), "cells.sqlite", jobs=int(sys.argv[1]), on_record=done)
print("end", flush=True)
"""


def start(folder, jobs):
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", str(jobs)]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )


@pytest.mark.parametrize(
    "jobs", [1, pytest.param(2, marks=pytest.mark.slow(reason="a pool of processes, killed and made again"))]
)
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_killed_sweep_goes_on_where_it_stopped(tmp_path, jobs, how):
    process = start(tmp_path, jobs)
    for _ in range(4):
        process.stdout.readline()
    os.killpg(process.pid, getattr(signal, how))  # the workers too, as Ctrl-C does
    _, stderr = process.communicate(timeout=600)
    if how == "SIGINT":
        assert "KeyboardInterrupt" in stderr and "of 30 cells finished; cells.sqlite keeps them" in stderr
    kept = [r["result"]["k"] for r in held(tmp_path / "cells.sqlite", "__main__.work")]
    before = computed(tmp_path / "log")
    (tmp_path / "again").touch()  # the first run does not end, however late it is killed
    assert 4 <= len(kept) < 30 and set(kept) <= set(before)
    out, _ = start(tmp_path, jobs).communicate(timeout=600)
    assert out.split()[-1] == "end" and sorted(map(int, out.split()[:-1])) == sorted(set(range(30)) - set(kept))
    after = computed(tmp_path / "log")
    assert all(after.count(k) == 1 for k in kept)
    assert len(after) - 30 <= 2 * jobs  # the cells that were running


def test_ctrl_c_hands_over_what_is_finished(store, capsys):
    def interrupted(s):
        if s["k"] == 2:
            raise KeyboardInterrupt
        return {"k": s["k"]}

    with pytest.raises(KeyboardInterrupt) as caught:
        quietly(interrupted, rl.grid(k=range(4)), store, name="i")
    assert [r["result"]["k"] for r in caught.value.records] == [0, 1]
    assert "interrupted with 2 of 4 cells finished" in capsys.readouterr().err
    assert quietly(interrupted, rl.grid(k=range(2)), store, name="i") == caught.value.records


def test_a_failing_cell_does_not_lose_the_others(store):
    cells = rl.grid(k=range(4))
    with pytest.raises(rl.SweepError, match=r"1 of 4 cells failed, the first, .*'k': 2.*ArithmeticError: two is too"):
        quietly(bad_at_two, cells, store)
    records = quietly(bad_at_two, cells, store, errors="keep")
    assert [r.get("error") for r in records] == [None, None, "ArithmeticError: two is too much", None]
    assert [r.get("result") for r in records] == [{"k": 0}, {"k": 1}, None, {"k": 3}]
    with pytest.raises(rl.SweepError) as caught:
        quietly(bad_at_two, cells)
    assert len(caught.value.records) == 4
    mended = quietly(square, cells, store, name=f"{__name__}.bad_at_two", code=records[0]["code"])
    assert mended[2]["result"] == {"square": 4} and mended[3] == records[3]


def test_the_error_reaches_another_process_with_its_records():
    error = pickle.loads(pickle.dumps(rl.SweepError("one failed", [{"error": "no"}])))
    assert str(error) == "one failed" and error.records == [{"error": "no"}]


@pytest.mark.slow(reason="two new pools of processes, each of which imports torch")
def test_a_cell_that_takes_its_process_along_is_found(store):
    records = quietly(fatal_at_two, rl.grid(k=range(4)), store, jobs=2, errors="keep")
    assert [r.get("result") for r in records] == [{"k": 0}, {"k": 1}, None, {"k": 3}]
    assert "ended from outside" in records[2]["error"]


def test_figures_must_fit_into_the_store():
    def odd(s):
        return {"array": np.arange(2), "tensor": torch.ones(()), "nan": math.nan, "number": np.float32(0.5)}

    (record,) = quietly(odd, [{}])
    nan = record["result"].pop("nan")
    assert record["result"] == {"array": [0, 1], "tensor": 1.0, "number": 0.5} and math.isnan(nan)
    for figures, message in ((3.0, "returned a float; it returns a dict"), ({"s": {1}}, "a set among its figures")):
        (record,) = quietly(lambda s, figures=figures: figures, [{}], errors="keep")
        assert message in record["error"]


def test_versions_and_functions_are_not_mixed_up(store):
    quietly(square, [{"k": 3}], store)
    assert quietly(where, [{"k": 3}], store)[0]["result"]["pid"] == os.getpid()
    with pytest.warns(UserWarning, match="holds .*square in version '' only, not '2'"):
        assert quietly(lambda s: {"square": -1}, [{"k": 3}], store, name=f"{__name__}.square", version="2")
    assert squares(quietly(square, [{"k": 3}], store)) == [9]
    assert squares(quietly(square, [{"k": 3}], store, version="2", code="x")) == [-1]


def test_another_state_of_the_code_is_announced(store):
    def versions(text):
        namespace = {}
        exec(text, namespace)
        return namespace["work"]

    def work(s):
        return {"k": 1}

    first = quietly(work, [{}], store, name="w")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quietly(work, [{}], store, name="w") == first
        assert quietly(versions("def work(s): return 1"), [{}], store, name="w") == first  # no text, no opinion

    def work(s):
        return {"k": 2}

    with pytest.warns(UserWarning, match="1 of the finished cells are of another state of the code.*fresh=True"):
        assert quietly(work, [{}], store, name="w") == first


def test_a_nameless_function_needs_a_name(store):
    for work in (lambda s: {}, functools.partial(square)):
        with pytest.raises(ValueError, match="pass name="):
            quietly(work, [{"k": 1}], store)
    assert quietly(lambda s: {}, [{"k": 1}], store, name="mine")


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
settings = st.dictionaries(st.text(), values, max_size=4)


def same(a, b):
    """Equal in Python's eyes, except that True is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@given(settings, settings)
def test_keys_are_equal_where_settings_are(a, b):
    assert (cell_key(a) == cell_key(b)) == same(a, b)
    assert cell_key(dict(reversed(a.items()))) == cell_key(a)
    assert same(json.loads(cell_key(a)), a)


def test_keys_of_numbers_and_arrays():
    assert cell_key({"a": 2, "b": 0.5}) == cell_key({"b": np.float64(0.5), "a": 2.0}) == '{"a":2,"b":0.5}'
    assert cell_key({"a": (1, np.int64(2))}) == cell_key({"a": torch.tensor([1, 2])}) == '{"a":[1,2]}'
    assert cell_key({"a": -0.0}) == cell_key({"a": 0}) != cell_key({"a": False})


@pytest.mark.parametrize(
    "cells, error, message",
    [
        ([{"x": math.nan}], ValueError, r"settings\['x'\] is nan"),
        ([{"x": [1, math.inf]}], ValueError, r"settings\['x'\]\[1\] is inf"),
        ([{"x": {1, 2}}], TypeError, r"settings\['x'\] is a set; settings are numbers"),
        ([{"x": {1: 2}}], TypeError, r"settings\['x'\] has the key 1, a int"),
        ([{"x": torch.relu}], TypeError, "builtin_function"),
        ([{"x": 1}, {"x": 1.0}], ValueError, "cell 1, {'x': 1.0}, is there twice"),
        ([3], TypeError, "cell 0 is a int; each cell is a dictionary"),
    ],
)
def test_unfit_settings_are_refused_before_the_work(cells, error, message, store):
    with pytest.raises(error, match=message):
        quietly(square, cells, store)
    assert not store.exists()
    with pytest.raises(ValueError, match="errors='ignore'"):
        quietly(square, [], errors="ignore")


def test_work_that_cannot_travel_is_refused():
    lock = threading.Lock()
    with pytest.raises(TypeError, match="cannot be sent to another process.*lock.*jobs=1"):
        quietly(lambda s: {"locked": lock.locked()}, [{}], jobs=2)
    assert quietly(lambda s: {"locked": lock.locked()}, [{}], jobs=1)


CACHED = """import functools
import reconlaw as rl

@functools.cache
def square(k):
    return k * k

def work(s):
    return {"square": square(s["k"])}

if __name__ == "__main__":
    rl.sweep(work, rl.grid(k=range(3)), jobs=2, progress=False)
"""


@pytest.mark.slow(reason="two new pools of processes, each of which imports torch")
def test_work_that_another_process_cannot_load_says_so(tmp_path):
    """A cached function of a script is known by its name alone, which another process looks for in vain."""
    (tmp_path / "script.py").write_text(CACHED)
    ran = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True)
    told = ran.stderr.splitlines()[-1]
    assert re.search("TypeError: work cannot be loaded in another process .*'square'.*module of its own", told), told


def test_progress_tells_what_remains(store, capsys):
    quietly(square, rl.grid(k=range(3)), store)
    quietly(square, rl.grid(k=range(6)), store, progress=True)
    shown = capsys.readouterr().err
    assert "3/6" in shown and "6/6" in shown and "cell/s" in shown
    quietly(square, rl.grid(k=range(6)), store, progress=True)
    assert capsys.readouterr().err == ""


def test_the_store_is_in_write_ahead_mode_and_leaves_one_file(store):
    modes = []

    def watch(record):
        with contextlib.closing(sqlite3.connect(store)) as other:
            modes.extend(other.execute("PRAGMA journal_mode").fetchone())

    quietly(square, [{"k": 1}], store, on_record=watch)
    assert modes == ["wal"] and list(store.parent.iterdir()) == [store]


def damaged(path):
    quietly(square, rl.grid(k=range(200)), path)
    content = bytearray(path.read_bytes())
    content[4096:12288] = b"\x5a" * 8192
    path.write_bytes(content)


def foreign(path):
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE cells (mine TEXT)")
    other.close()


def later(path):
    quietly(square, [{"k": 1}], path)
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()


def garbled(path):
    quietly(square, [{"k": 1}], path)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE cells SET result = '{'")
    other.close()


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda path: path.write_text("my notes, which are not to be lost"), "is damaged, or no SQLite file"),
        (lambda path: path.write_bytes(b"7"), "is no SQLite file, of one byte"),
        (damaged, "is damaged, or no SQLite file"),
        (garbled, "is damaged, or no SQLite file"),
        (foreign, "a database of something else; it was left as it is: name another file"),
        (later, "of a later reconlaw"),
    ],
)
def test_what_is_no_store_is_left_as_it_is(tmp_path, spoil, message):
    path = tmp_path / "cells.sqlite"
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(rl.StoreError, match=message):
        quietly(square, [{"k": 1}], path)
    assert path.read_bytes() == before
    path.unlink()
    path.touch()  # an empty file is an empty store
    assert squares(quietly(square, [{"k": 1}], path)) == [1]


def test_a_store_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "cells.sqlite"):
        with pytest.raises(rl.StoreError, match="cannot be written .*name another file|is a folder"):
            quietly(square, [{"k": 1}], path)


def test_a_full_disk_says_so_and_keeps_the_cells(store):
    def work(s):
        return {"long": "x" * s["size"]}

    small = quietly(work, [{"size": 10}], store, name="w")

    class Full(Store):
        def _prepare(self):
            super()._prepare()
            (pages,) = self._sqlite.execute("PRAGMA page_count").fetchone()
            self._sqlite.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["reconlaw.sweeps.sweep"], "Store", Full)
        with pytest.raises(rl.StoreError, match="cannot be written .*full.*: free space"):
            quietly(work, [{"size": 100_000}], store, name="w")
    assert quietly(work, [{"size": 10}], store, name="w") == small


def test_a_locked_store_says_so(store, monkeypatch):
    quietly(square, [{"k": 1}], store)
    monkeypatch.setattr("reconlaw.sweeps.store._BUSY", 0.1)
    other = sqlite3.connect(store, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(rl.StoreError, match="kept locked by another process"):
        quietly(square, [{"k": 2}], store)
    other.execute("ROLLBACK")
    other.close()
    assert squares(quietly(square, [{"k": 2}], store)) == [4]


def test_two_sweeps_share_a_store(store, tmp_path):
    """The second one, in the middle of the first, finishes all; the first computes nothing of it again."""
    log = str(tmp_path / "log")
    cells = rl.grid(k=range(6), log=[log])
    inner = []

    def other_process(record):
        if not inner:
            inner.extend(quietly(square, cells, store))

    assert squares(quietly(square, cells, store, on_record=other_process)) == squares(inner)
    assert sorted(computed(log)) == list(range(6))


def test_a_finished_cell_is_not_overwritten(store):
    with Store(store) as kept:
        kept.add("n", "", "k", {}, None, "failed", None, 1.0)
        kept.add("n", "", "k", {}, '{"a": 1}', None, None, 1.0)
        kept.add("n", "", "k", {}, None, "failed again", None, 1.0)
        kept.add("n", "", "k", {}, '{"a": 2}', None, None, 1.0)
        assert kept.records("n", "")["k"]["result"] == {"a": 1}
        kept.add("n", "", "k", {}, '{"a": 3}', None, None, 1.0, replace=True)
        assert kept.records("n", "")["k"]["result"] == {"a": 3}


@pytest.mark.slow(reason="three processes, each of which imports torch")
def test_many_processes_open_a_new_store_at_once(tmp_path):
    script = "import reconlaw as rl, sys; rl.sweep(lambda s: s, rl.grid(k=range(9)), 'c.sqlite', name='w', jobs=1)"
    started = [subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE) for _ in range(3)]
    assert [(p.communicate(timeout=600)[1][-300:], p.returncode)[1] for p in started] == [0, 0, 0]
    assert len(held(tmp_path / "c.sqlite", "w")) == 9


@pytest.mark.slow(reason="a cluster of two processes, each of which imports torch")
def test_the_same_call_runs_on_a_dask_cluster(store, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": "ERROR"}
    log, cells = str(tmp_path / "log"), rl.grid(k=range(8))
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        workers = set(client.run(os.getpid).values())
        with parallel_config(backend="dask"):
            records = rl.sweep(where, cells, store, progress=False)
            assert squares(rl.sweep(square, rl.grid(k=range(4), log=[log]), store, progress=False)) == [0, 1, 4, 9]
            again = rl.sweep(square, rl.grid(k=range(8), log=[log]), store, progress=False)
            kept = rl.sweep(bad_at_two, cells, store, progress=False, errors="keep")
            with pytest.raises(ModuleNotFoundError, match="on the worker"):
                rl.sweep(Unloadable(), [{}], progress=False)
    assert {r["result"]["pid"] for r in records} <= workers and {r["result"]["threads"] for r in records} == {1}
    assert squares(again) == [k**2 for k in range(8)] and sorted(computed(log)) == list(range(8))
    assert [("error" in r) for r in kept] == [k == 2 for k in range(8)]


@pytest.mark.slow(reason="a scheduler and its worker")
def test_the_lines_that_the_book_shows_for_a_cluster(store):
    distributed = pytest.importorskip("distributed")
    chapter = json.loads((ROOT / "book" / "signs" / "phase-transition.ipynb").read_text(encoding="utf-8"))
    texts = ["".join(cell["source"]) for cell in chapter["cells"] if cell["cell_type"] == "markdown"]
    (lines,) = re.findall(r"```python\n(from dask.*?)```", "\n".join(texts), flags=re.DOTALL)
    with distributed.LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        names = {"rl": rl, "success": square, "whole": rl.grid(k=range(3)), "store": store}
        exec(lines.replace("tcp://scheduler:8786", cluster.scheduler_address), names)
    assert squares(names["records"]) == [0, 1, 4] and len(held(store, f"{__name__}.square")) == 3


class Unloadable:
    """A function whose module the workers lack."""

    def __reduce__(self):
        return _load, (os.getpid(),)

    def __call__(self, s):
        return {}


def _load(pid):
    if os.getpid() != pid:
        raise ModuleNotFoundError("no such module on the worker")
    return Unloadable()


class Unprintable(Exception):
    def __str__(self):
        return 1 / 0


@pytest.mark.parametrize("error", [ValueError("\udcff"), Unprintable(), RuntimeError("\0")])
def test_odd_errors_of_a_cell_do_not_end_a_sweep(store, error):
    def work(settings):
        if settings["n"] == 1:
            raise error
        return {"a": settings["n"]}

    records = quietly(work, rl.grid(n=[1, 2]), store, name="odd", jobs=1, errors="keep")
    assert type(error).__name__ in records[0]["error"] and records[1]["result"] == {"a": 2}


def test_figures_with_half_a_letter_fail_their_cell_alone(store):
    records = quietly(
        lambda s: {"a": "\ud800" if s["n"] == 1 else "x"},
        rl.grid(n=[1, 2]),
        store,
        name="half",
        jobs=1,
        errors="keep",
    )
    assert "UnicodeEncodeError" in records[0]["error"] and records[1]["result"] == {"a": "x"}


def test_a_damaged_store_never_gives_other_figures(tmp_path):
    draw, whole = random.Random(0), tmp_path / "whole.sqlite"
    cells, right = rl.grid(n=range(30)), {"a": "x" * 400}
    quietly(lambda s: dict(right), cells, whole, name="w", jobs=1)
    content, refused = whole.read_bytes(), 0
    for _ in range(60):
        flipped = bytearray(content)
        for _ in range(draw.randint(1, 20)):
            flipped[draw.randrange(len(flipped))] = draw.randrange(256)
        for path in tmp_path.glob("flip.sqlite*"):
            path.unlink()
        (tmp_path / "flip.sqlite").write_bytes(flipped)
        try:
            records = quietly(lambda s: dict(right), cells, tmp_path / "flip.sqlite", name="w", jobs=1)
            assert [record["result"] for record in records] == [right] * 30
        except rl.StoreError:
            refused += 1
    assert refused


def test_a_store_of_the_layout_before_is_taken_over(store):
    quietly(lambda s: {"a": s["n"]}, rl.grid(n=[1, 2]), store, name="w", jobs=1)
    with sqlite3.connect(store) as old:
        old.execute("ALTER TABLE cells DROP COLUMN seal")
        old.execute("PRAGMA user_version = 1")
    old.close()
    done = []
    records = quietly(lambda s: done.append(s) or {"a": s["n"]}, rl.grid(n=[1, 2, 3]), store, name="w", jobs=1)
    assert [record["result"]["a"] for record in records] == [1, 2, 3] and len(done) == 1


def test_cells_are_claimed_and_claims_of_the_dead_expire(store, monkeypatch):
    monkeypatch.setattr(claims, "_BEAT", 1_000.0)  # none comes between two lines here
    monkeypatch.setattr(claims, "_SILENCE", 2_000.0)
    with Store(store) as one, Store(store) as two:
        mine, yours = one.claims(), two.claims()
        assert mine.take("w", "", "a") and not yours.take("w", "", "a")
        assert mine.take("w", "", "a")  # again, by the same
        assert yours.take("w", "", "b") and not mine.take("w", "", "b")
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        one._sqlite.execute("UPDATE owners SET pid = ? WHERE owner = ?", (gone.pid, mine.owner))
        assert yours.take("w", "", "a")
        one._sqlite.execute("UPDATE owners SET host = 'elsewhere', beat = beat - 1000 WHERE owner = ?", (yours.owner,))
        assert not mine.take("w", "", "b")
        one._sqlite.execute("UPDATE owners SET beat = beat - 1000 WHERE owner = ?", (yours.owner,))
        assert mine.take("w", "", "b")
        one.add("w", "", "b", {}, result="{}")
        assert not mine.take("w", "", "b") and not yours.take("w", "", "b")  # finished
        mine.close()
        yours.close()
        assert one._sqlite.execute("SELECT count(*) FROM claims").fetchone() == (0,)


def test_a_cell_that_failed_is_left_to_whoever_waits_for_it(store):
    """Two processes, each waiting for a cell that failed in the other, would else wait for ever."""
    there = []

    def work(s):
        if s["n"] == 1:
            raise ValueError("it fails")
        return {"a": 1}

    def look(record):
        with Store(store) as other:
            mine = other.claims()
            there.append((record["settings"]["n"], mine.take("w", "", cell_key(record["settings"]))))
            mine.close()

    cells = [{"n": 0}, {"n": 1}, {"n": 2}]
    rl.sweep(work, cells, store, name="w", jobs=1, progress=False, errors="keep", on_record=look)
    assert sorted(there) == [(0, False), (1, True), (2, False)]  # finished ones are nobody's to compute
