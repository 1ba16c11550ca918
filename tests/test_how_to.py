"""Every block of code on the page of recipes runs, large sizes made small and a reader's seconds made steps."""

import re
import subprocess
import sys

import pytest
from helpers import HOW_TO, RECIPES

SMALLER = {
    "Use a bigger p on a GPU": [
        ("n, d, p = 20, 3_072, 1_000_000", "n, d, p = 4, 30, 1_200"),
        ("progress=True", "progress=False"),
    ],
    "Divide p among several GPUs": [("n, d, p = 20, 100, 10_000_000", "n, d, p = 3, 20, 401")],
    "Run a sweep on a cluster": [
        ("n=[20], d=[100], ratio=[1.25, 1.5, 2, 3], seed=range(20)", "n=[3], d=[20], ratio=[3, 6], seed=range(2)"),
        ("in (1.25, 1.5, 2, 3)", "in (3, 6)"),
        (
            'records = rl.sweep(trial, cells, "trials.sqlite")',
            'records = rl.sweep(trial, cells, "t.sqlite", progress=0)',
        ),
    ],
}


def test_each_recipe_has_its_block():
    assert len(RECIPES) == HOW_TO.count("```python") >= 5
    assert set(SMALLER) <= set(RECIPES)


@pytest.mark.parametrize("title", RECIPES)
def test_recipe_runs(title, tmp_path, monkeypatch, capsys):
    code = RECIPES[title]
    for large, small in SMALLER.get(title, ()):
        assert large in code, f"{title}: {large!r} is gone"
        code = code.replace(large, small)
    code = re.sub(r"max_seconds=[\d_]+", "max_steps=50_000, max_seconds=None", code)
    monkeypatch.chdir(tmp_path)
    if "init_process_group" in code:
        (tmp_path / "attack.py").write_text(code, encoding="utf-8")
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "attack.py"]
        ran = subprocess.run(launch, capture_output=True, text=True)
        assert ran.returncode == 0 and ran.stdout.count("3 of 3") == 2, ran.stdout + ran.stderr
        return
    if "tcp://scheduler:8786" not in code:
        exec(compile(code, title, "exec"), {"__name__": "__main__"})
        return
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        names = {"__name__": "recipe"}
        exec(compile(code.replace("tcp://scheduler:8786", cluster.scheduler_address), title, "exec"), names)
    assert all(record["result"]["recovered"] for record in names["records"])
    assert "6 2 of 2" in capsys.readouterr().out
