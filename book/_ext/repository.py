"""Re-point every link to the repository: `python book/_ext/repository.py owner/name`.

The slug in `_config.yml` is the current one. Wherever a text file of the tree links to it on GitHub,
Colab, Binder or GitHub Pages, the link is rewritten; a second run changes nothing.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

SUFFIXES = {".cff", ".ipynb", ".md", ".py", ".toml", ".yml"}
SLUG = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?/[A-Za-z0-9_.-]+")


def current_slug(root: Path) -> str:
    match = re.search(r"^\s+url: https://github\.com/(\S+)$", (root / "_config.yml").read_text(), re.MULTILINE)
    if match is None:
        raise SystemExit("_config.yml: no line `url: https://github.com/owner/name` under `repository:`")
    return match.group(1)


def text_files(root: Path) -> list[Path]:
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith((".", "_build")) and f != "node_modules"]
        found += [Path(folder, f) for f in files if Path(f).suffix in SUFFIXES]
    return sorted(found)


def repoint(root: Path, slug: str) -> list[Path]:
    """Rewrite the links under `root`; the files that changed."""
    if not SLUG.fullmatch(slug):
        raise SystemExit(f"SLUG must read owner/name, got {slug!r}")
    old, changed = current_slug(root), []
    (owner, name), (new_owner, new_name) = old.split("/"), slug.split("/")
    end = r"(?!\.?[\w-])"  # `owner/name.` closes a sentence, `owner/name.x` is another repository
    rules = [
        (rf"(github\.com/|/github/|/gh/){re.escape(old)}(?=\.git\b|{end})", rf"\g<1>{slug}"),
        (
            rf"{re.escape(owner.lower())}\.github\.io/{re.escape(name)}{end}",
            f"{new_owner.lower()}.github.io/{new_name}",
        ),
    ]
    for path in text_files(root):
        before = after = path.read_text(encoding="utf-8")
        for pattern, replacement in rules:
            after = re.sub(pattern, replacement, after)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    root = Path(__file__).resolve().parents[2]
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: make repository SLUG=owner/name   (now {current_slug(root)})")
    for path in repoint(root, sys.argv[1]):
        print(path.relative_to(root))
    print(f"repository: {current_slug(root)}")
