"""For the handout: lets Sphinx's builder of one long page write every node that its html builder can.

Packages register what they draw for the format "html". As soon as one of them (sphinx-exercise does) registers
something for the builder "singlehtml", Sphinx looks no further for that builder; so copy the others over.
"""

from __future__ import annotations

from sphinx.application import Sphinx


def share_handlers(app: Sphinx) -> None:
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = {**handlers.get("html", {}), **handlers.get("singlehtml", {})}


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", share_handlers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
