"""For the API reference: the docstrings' indented formulas keep their lines, and |a| is an absolute value."""

from __future__ import annotations

import re

LITERAL = re.compile(r"(``.*?``)")


def formulas_as_literals(app, what, name, obj, options, lines):
    """An indented block after a blank line is a formula; the sections (``Args:`` …) follow theirs without one."""
    out: list[str] = []
    inside = False
    for line in lines:
        indented, blank_before = line.startswith("    "), bool(out) and not out[-1].strip()
        last = next((earlier for earlier in reversed(out) if earlier.strip()), "")
        if indented and blank_before and not last.startswith(" "):
            out += ["::", ""]
            inside = True
        inside = inside and (indented or not line.strip())
        out.append(line if inside else bars_escaped(line))
    lines[:] = out


def bars_escaped(line: str) -> str:
    """``|a|`` in prose would name a substitution."""
    parts = LITERAL.split(line)
    return "".join(part if part.startswith("``") else part.replace("|", r"\|") for part in parts)


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", formulas_as_literals, priority=100)  # before napoleon
    app.setup_extension("sphinx.ext.napoleon")
    return {"version": "1", "parallel_read_safe": True}
