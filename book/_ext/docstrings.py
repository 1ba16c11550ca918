"""For the API reference: the docstrings' indented formulas keep their lines."""

from __future__ import annotations


def formulas_as_literals(app, what, name, obj, options, lines):
    """An indented block after a blank line is a formula; the sections (``Args:`` …) follow theirs without one."""
    out: list[str] = []
    for line in lines:
        indented, blank_before = line.startswith("    "), bool(out) and not out[-1].strip()
        last = next((earlier for earlier in reversed(out) if earlier.strip()), "")
        if indented and blank_before and not last.startswith(" "):
            out += ["::", ""]
        out.append(line)
    lines[:] = out


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", formulas_as_literals, priority=100)  # before napoleon
    app.setup_extension("sphinx.ext.napoleon")
    return {"version": "1", "parallel_read_safe": True}
