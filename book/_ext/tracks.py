"""How long a chapter's core track is, and how it speaks: ``python book/_ext/tracks.py`` prints a line for each.

The core is what a reader meets who opens nothing and skips what is marked optional: exercises, dropdowns, folded code
and sections whose heading says "(optional)" are aside. Formulas and code are no words.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat

HEADING = re.compile(r"^(#{2,4}) (.*)$", re.MULTILINE)
FENCE = re.compile(r"^(:{3,}|`{3,})(\{(\w[\w:-]*)\}.*)?")
FORMULA_OR_CODE = re.compile(r"\$\$.*?\$\$|\$[^$]*\$|```.*?```|`[^`]*`", re.DOTALL)
ASIDE = ("Exercises", "(optional)")
VOICE = {
    "we/you": r"\b(we|you|our|your|us)\b",
    "connectives": r"\b(because|since|suppose|recall|therefore|so that|for example|for instance)\b",
    "semicolons": ";",
}


def unfolded(text: str) -> str:
    """Without dropdowns, and without the directives that a class folds."""
    kept, fences, hidden_at = [], [], None
    lines = text.splitlines()
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if fence and fence[3]:
            fences.append(fence[1])
            folds = fence[3] == "dropdown" or ":class: dropdown" in lines[number + 1 : number + 3]
            if folds and hidden_at is None:
                hidden_at = len(fences)
        elif fence and fences and line.strip() == fences[-1]:
            fences.pop()
            if hidden_at is not None and len(fences) < hidden_at:
                hidden_at = None
                continue
        if hidden_at is None:
            kept.append(line)
    return "\n".join(kept)


def core(path: Path) -> tuple[str, int]:
    """The core track's text, and how many of its code cells stand open."""
    text, cells, aside = [], 0, 0  # aside: the level of the heading that began what is skipped
    for cell in nbformat.read(path, as_version=4).cells:
        tags = cell.metadata.get("tags", [])
        if "remove-cell" in tags:
            continue
        if cell.cell_type == "code":
            cells += not aside and not {"hide-input", "hide-cell", "remove-input", "solution"} & set(tags)
            continue
        start = 0
        source = unfolded(cell.source)
        for heading in HEADING.finditer(source):
            text += [] if aside else [source[start : heading.start()]]
            start, level = heading.start(), len(heading[1])
            if not aside or level <= aside:
                aside = level if any(mark in heading[2] for mark in ASIDE) else 0
        text += [] if aside else [source[start:]]
    return "\n".join(text), cells


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z']+", FORMULA_OR_CODE.sub(" ", text))


def voice(text: str) -> dict[str, float]:
    """Each of `VOICE`, per 1,000 words."""
    plain = FORMULA_OR_CODE.sub(" ", text)
    return {name: 1000 * len(re.findall(p, plain, re.I)) / len(words(text)) for name, p in VOICE.items()}


def told(path: Path) -> str:
    """All that a chapter says, the optional and the folded too."""
    cells = nbformat.read(path, as_version=4).cells
    shown = (c.source for c in cells if c.cell_type == "markdown" and "remove-cell" not in c.metadata.get("tags", []))
    return "\n".join(shown)


def main() -> None:
    print(f"{'chapter':42}core words  open cells  all words  " + "  ".join(VOICE))
    book = Path(__file__).parents[1]
    for path in map(Path, sys.argv[1:] or sorted(book.glob("[!_]*/*.ipynb"))):
        text, cells = core(path)
        rates = "  ".join(f"{rate:{len(name)}.1f}" for name, rate in voice(told(path)).items())
        print(f"{path.stem:42}{len(words(text)):10}  {cells:10}  {len(words(told(path))):9}  {rates}")


if __name__ == "__main__":
    main()
