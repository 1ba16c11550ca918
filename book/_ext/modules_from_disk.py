"""A page's modules in one classic script: browsers refuse modules to a page that was opened from disk."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

# Modules of the assets that pages begin with, and the scripts to make of them.
PAGES = {
    "playground/playground.js": "from-disk.js",
    "playground/hero.js": "hero-from-disk.js",
    "calculator/calculator.js": "from-disk.js",
}
IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:const|class|function\*?) (\w+))", re.MULTILINE)


def in_one(first: Path) -> str:
    """Each module that ``first`` needs as a function that returns what it exports, those first that others import."""
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        source = (first.parent / name).read_text(encoding="utf-8")
        for _, imported in IMPORT.findall(source):
            add(imported)
        exported = ", ".join(EXPORT.findall(source))
        body = EXPORT.sub("", IMPORT.sub(r'const {\1} = modules["\2"];\n', source))
        done[name] = f'modules["{name}"] = (() => {{\n{body}return {{ {exported} }};\n}})();\n'

    add(first.name)
    return '"use strict";\nconst modules = {};\n' + "".join(done.values())


def write(app: Sphinx, error: Exception | None) -> None:
    for name, script in PAGES.items():
        first = Path(app.outdir, "_static", name)
        if error is None and first.is_file():
            first.with_name(script).write_text(in_one(first), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
