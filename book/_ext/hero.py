"""The front page opens with the law at work: the hero of `_assets/playground`, put below the page's first sentence.

It is no part of the notebook, where it would show as code; without JavaScript the page's own picture stands alone.
"""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

FRAGMENT = Path("_assets", "playground", "hero.html")
FIRST = "reconstruction/images-from-weights"


def put(app: Sphinx, pagename, templatename, context, doctree) -> None:
    if pagename != app.config.root_doc or app.builder.name not in ("html", "dirhtml") or not context.get("body"):
        return
    fragment = Path(app.srcdir, FRAGMENT).read_text(encoding="utf-8")
    lead, end, rest = context["body"].partition("</p>")
    fragment = fragment.replace("{first}", app.builder.get_relative_uri(pagename, FIRST))
    context["body"] = lead + end + fragment + rest


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", put)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
