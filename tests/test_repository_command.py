"""`make repository` re-points a copy of the tree everywhere, and a second run changes nothing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KEPT = shutil.ignore_patterns(".*", "_build", "__pycache__", "*.egg-info", "benchmarks", "src")


def run(tree, *arguments):
    script = tree / "book" / "_ext" / "repository.py"
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)


def slug_of(tree):
    return re.search(r"https://github\.com/(\S+)", (tree / "_config.yml").read_text()).group(1)


@pytest.fixture
def tree(tmp_path):
    return Path(shutil.copytree(ROOT, tmp_path / "tree", ignore=KEPT))


def test_repoints_every_link_and_is_idempotent(tree):
    old, new = slug_of(tree), "Jane-Doe/reading.group"
    first = run(tree, new)
    assert first.returncode == 0, first.stderr
    assert slug_of(tree) == new

    link = re.compile(rf"(github\.com/|/github/|/gh/){re.escape(old)}\b")
    for path in [p for p in tree.rglob("*") if p.suffix in {".md", ".ipynb", ".yml", ".toml", ".cff"}]:
        assert not link.search(path.read_text()), f"{path.relative_to(tree)} still links to {old}"
    assert f"git+https://github.com/{new}" in "".join(p.read_text() for p in tree.glob("book/*/*.ipynb"))

    before = {p: p.read_bytes() for p in tree.rglob("*") if p.is_file()}
    assert run(tree, new).returncode == 0
    assert {p: p.read_bytes() for p in tree.rglob("*") if p.is_file()} == before

    assert run(tree, old).returncode == 0
    for path in before:
        if (ROOT / path.relative_to(tree)).exists() and path.suffix != ".pyc":
            assert path.read_bytes() == (ROOT / path.relative_to(tree)).read_bytes(), "there and back changed a file"


@pytest.mark.parametrize("slug", ["", "owner", "owner/name/more", "own er/name", "https://github.com/a/b"])
def test_refuses_what_is_no_slug(tree, slug):
    before = (tree / "_config.yml").read_bytes()
    result = run(tree, slug)
    assert result.returncode != 0 and "owner/name" in result.stderr
    assert (tree / "_config.yml").read_bytes() == before
