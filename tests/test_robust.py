"""`make robust` finds what rests on a seed, leaves what does not, and computes no rerun twice."""

import copy
import subprocess
import sys

import nbformat
import torch
from helpers import ROOT
from robust import moved, otherwise, tensors

import reconlaw as rl
from reconlaw.attack.subspace import quantum

PROBLEM = """import torch
import reconlaw as rl
data = rl.data.sphere(2, 8, seed=0)
features = rl.RandomFeatures(8, 160, seed=0, device="cpu")
theta, made, unread = features.fit(data.X, data.y), [], 0"""
FOUND = """options = {"seed": 1, "max_seconds": None}
result = rl.reconstruct(theta, features, 2, max_steps=5_000, **options)
made.append(result)
print(len(made), "run,", int(rl.match(result.X, data.X).recovered().sum()), "of 2")"""
UNTOUCHED = "unread += 1\nprint(unread)"  # counts up where it runs again
START = """def start():
    return rl.reconstruct(theta, features, 2, method="sgd", max_steps=0, **options).X


print(f"{start()[0, 0]:.6f}")"""

RUN = """import sys
from pathlib import Path
import matplotlib
matplotlib.use("Agg")
sys.path.insert(0, sys.argv[1])
import robust
folder = Path(sys.argv[2])
robust.BOOK, robust.TABLE, robust.RECORD = folder, folder / "robust.md", folder / "robust.json"
robust.KEPT, robust.SHARE = folder / "kept", 1
chapter = folder / "part" / "chapter.ipynb"
assert robust.share_out([chapter], 2, 2)
robust.write([chapter])"""


def test_the_table_tells_what_rests_on_a_seed(tmp_path):
    space = {}
    exec(PROBLEM, space)
    at = rl.reconstruct(space["theta"], space["features"], 2, method="sgd", max_steps=0, seed=1, max_seconds=None).X
    stored = ["", "1 run, 2 of 2", "1", f"{at[0, 0]:.6f}"]
    cells = []
    for k, (source, text) in enumerate(zip((PROBLEM, FOUND, UNTOUCHED, START), stored, strict=True), 1):
        outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
        cells.append(nbformat.v4.new_code_cell(source, execution_count=k, outputs=outputs))
    (tmp_path / "part").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "part" / "chapter.ipynb")
    call = [sys.executable, "-c", RUN, str(ROOT / "tests"), str(tmp_path)]
    first = subprocess.run(call, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [f"part-chapter.{k}.json" for k in (1, 2)]
    rows = [
        [part.strip() for part in row.split("|")[1:-1]] for row in (tmp_path / "robust.md").read_text().splitlines()
    ]
    assert rows[2][:3] == ["part/chapter", "none", "1 of 1"] and rows[2][4] == ""
    assert rows[3][:3] == ["part/chapter", "θ moved by 1e-14", "2 of 2"] and rows[3][4] == ""
    assert rows[4][:3] == ["part/chapter", "another seed", "0 of 2"]
    assert rows[4][4] == f"[4] 2×: no longer: {at[0, 0]:.6f}"
    again = subprocess.run(call, capture_output=True, text=True)
    assert again.returncode == 0 and "chapter" in first.stderr and again.stderr == ""


def test_what_moves_keeps_the_precision_that_it_shows():
    draw = torch.Generator().manual_seed(0)
    exact = torch.randn(6, 1000, dtype=torch.float64, generator=draw)
    again = moved(exact, draw)
    assert 0.9e-14 < float((again - exact).norm() / exact.norm()) < 1.1e-14
    before = torch.randn(6, 1000, generator=draw)
    for kind in (torch.float32, torch.float16):
        change = (before + 0.01 * exact).to(kind).double() - before.to(kind).double()
        again = moved(change, draw)
        flipped = float((again != change).double().mean())
        assert quantum(again) == quantum(change) and 0 < flipped < 1 / 400
        assert (again - change).abs().max() <= quantum(change)


def test_only_what_was_trained_moves(tmp_path):
    before = torch.nn.Sequential(torch.nn.Linear(4, 30), torch.nn.Linear(30, 20))
    after = copy.deepcopy(before)
    after[1].weight.data += 1e-3 * torch.randn(20, 30, generator=torch.Generator().manual_seed(1))
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in after.state_dict().items()}}
    torch.save(wrapped, tmp_path / "after.pt")
    torch.save(before.state_dict(), tmp_path / "before.pt")
    for old, new in ((before, after), (tmp_path / "before.pt", tmp_path / "after.pt")):
        found = otherwise(new, tensors(old), torch.Generator().manual_seed(2))
        differ = [one for one, old in zip(tensors(found), tensors(after), strict=True) if not torch.equal(one, old)]
        assert [one.shape for one in differ] == [(20, 30)] and differ[0].dtype == torch.float32
    assert torch.load(found, weights_only=True)["epoch"] == 3
