"""A page's modules in one classic script: browsers refuse modules to a page that was opened from disk."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sphinx.application import Sphinx

# Modules of the assets that pages begin with, and the scripts to make of them.
PAGES = {
    "playground/playground.js": "from-disk.js",
    "playground/hero.js": "hero-from-disk.js",
    "calculator/calculator.js": "from-disk.js",
}
IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.\.?/[\w./-]+\.js)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:const|class|function\*?) (\w+))", re.MULTILINE)


def in_one(first: Path) -> str:
    """Each module that ``first`` needs as a function that returns what it exports, those first that others import."""
    done: dict[Path, str] = {}

    def add(file: Path) -> None:
        if file in done:
            return
        source = file.read_text(encoding="utf-8")
        for _, imported in IMPORT.findall(source):
            add((file.parent / imported).resolve())
        exported = ", ".join(EXPORT.findall(source))
        body = IMPORT.sub(lambda found: f"const {{{found[1]}}} = modules[{named(file.parent / found[2])}];\n", source)
        done[file] = f"modules[{named(file)}] = (() => {{\n{EXPORT.sub('', body)}return {{ {exported} }};\n}})();\n"

    def named(file: Path) -> str:
        return json.dumps("/".join(file.resolve().parts[-2:]))

    add(first.resolve())
    return '"use strict";\nconst modules = {};\n' + "".join(done.values())


def write(app: Sphinx, error: Exception | None) -> None:
    for name, script in PAGES.items():
        first = Path(app.outdir, "_static", name)
        if error is None and first.is_file():
            first.with_name(script).write_text(in_one(first), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
