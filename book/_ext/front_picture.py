"""Take the front page's picture out of its executed notebook, for README.md: `python book/_ext/front_picture.py`."""

from __future__ import annotations

import base64
from pathlib import Path

import nbformat

BOOK = Path(__file__).resolve().parents[1]


def picture(notebook: Path) -> bytes:
    """The first PNG among a notebook's outputs."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                return base64.b64decode(output["data"]["image/png"])
    raise SystemExit(f"{notebook.name} holds no picture; execute it first: make notebooks NB=book/{notebook.name}")


if __name__ == "__main__":
    target = BOOK / "_assets" / "front.png"
    target.write_bytes(picture(BOOK / "index.ipynb"))
    print(target.relative_to(BOOK.parent))
