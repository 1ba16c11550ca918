r"""Where a formula that is too wide for its place is broken.

Breaks stand outside all brackets: a display's at ``\quad`` first, then before relations, then before + and −; those of
a formula within the text after relations, as TeX breaks it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\s+|.", re.DOTALL)
RELATIONS = {"=", "<", ">"} | {
    f"\\{name}"
    for name in "le ge leq geq ne neq approx sim simeq equiv to mapsto in subset subseteq propto ll gg iff implies "
    "Rightarrow Longrightarrow Leftrightarrow Longleftrightarrow leftarrow rightarrow".split()
}
BINARY = {"+", "-", r"\pm"}
OPENING, CLOSING = {*"{([", r"\{", r"\langle"}, {*"})]", r"\}", r"\rangle"}
UNARY_AFTER = RELATIONS | BINARY | {"", ",", r"\\"}
APART = {r"\quad", r"\qquad"}
SPACES = {r"\,", r"\;", r"\:", r"\!", r"\ "}
ALIGNED = re.compile(r"\s*\\begin\{(split|aligned)\}(?!.*\\begin\{\1\})(.*)\\end\{\1\}\s*", re.DOTALL)
TAG = re.compile(r"\\tag\{[^}]*\}")
WORDS = re.compile(r"\\text\{[^}]*\}")
LONG_WORDS = re.compile(r"\\text\{([^{}]{20,} )([^{}]{20,})\}")
INDENT = r"\quad{}"


@dataclass
class Piece:
    """A stretch of a formula that is not broken: what stands before it ("" at the beginning), and the rest."""

    sign: str
    rest: str

    @property
    def tex(self) -> str:
        return f"{self.sign}{self.rest}"


def pieces(tex: str, within: bool = False) -> list[Piece]:
    """A formula cut before each relation, + or −, gap and new row outside its brackets; ``within`` them, too."""
    while whole := ALIGNED.fullmatch(tex):
        tex = whole[2]
    found, depth, before, fence = [Piece("", "")], 0, "", False
    for token in TOKEN.findall(LONG_WORDS.sub(r"\\text{\1}\\text{\2}", tex)):
        cuts = token in RELATIONS or token in BINARY and before not in UNARY_AFTER
        cuts |= token == r"\text" and before == "}" or token == "/" and within
        if fence:  # the bracket that \left or \right sizes
            fence = False
        elif token in (r"\left", r"\right"):
            depth, fence = depth + (1 if token == r"\left" else -1), True
        elif token in ("{", r"\begin") or token in OPENING and not within:
            depth += 1
        elif token in ("}", r"\end") or token in CLOSING and not within:
            depth -= 1
        elif depth == 0 and (token in APART or token == r"\\" or cuts and before not in (r"\not", "_", "^")):
            found.append(Piece(token, ""))
            before = token if token.strip() else before
            continue
        elif depth == 0 and token == "&":
            before = token if before == r"\\" else before  # a row that is indented to its sign goes on
            continue
        found[-1].rest += token
        if token.strip() and token not in SPACES:
            before = token
    return found


def statements(tex: str) -> list[list[Piece]]:
    """What gaps and rows divide; a row that begins with a relation goes on with the one before."""
    found: list[list[Piece]] = [[]]
    for piece in pieces(tex):
        empty = not trimmed(piece.tex)
        if piece.sign in APART or piece.sign == r"\\":
            found.append([])
            piece = Piece("", piece.rest)
            empty = not trimmed(piece.rest)
        elif piece.sign and len(found) > 1 and not found[-1]:
            found.pop()
        if not empty:
            found[-1].append(piece)
    joined: list[list[Piece]] = []
    for one in filter(None, found):
        alone = joined and len(joined[-1]) == 1 and WORDS.fullmatch(trimmed(joined[-1][0].tex))
        if alone:  # "with", "in short"
            one[0] = Piece("", rf"{trimmed(joined.pop()[0].tex)}\ {trimmed(one[0].tex)}")
        joined.append(one)
    return joined


def trimmed(tex: str) -> str:
    return re.sub(r"^(?:\s|\\[,;:!])+|(?:\s|\\[,;:!])+$", "", tex)


def in_lines(tex: str, fits: Callable[[str], bool]) -> str | None:
    """A display in lines that fit, as far as breaks outside brackets make them; None where there are none."""
    tag = TAG.search(tex)
    lines: list[str] = []
    for one in statements(TAG.sub("", tex)):
        whole = trimmed("".join(piece.tex for piece in one))
        together = rf"{lines[-1]} \quad {whole}" if lines else whole
        if fits(together):
            lines[-1:] = [together]
        elif fits(whole):
            lines.append(whole)
        else:
            lines += filled(one, fits)
    if len(lines) < 2:
        return None
    return r"\begin{aligned}" + r" \\ ".join(f"& {line}" for line in lines) + r"\end{aligned}" + (tag[0] if tag else "")


def filled(statement: list[Piece], fits: Callable[[str], bool]) -> list[str]:
    """One statement in lines: broken before relations, and before + and − where that does not do."""
    members: list[list[Piece]] = []
    for piece in statement:
        if members and piece.sign not in RELATIONS:
            members[-1].append(piece)
        else:
            members.append([piece])
    lines = [""]
    for member in members:
        text = trimmed("".join(piece.tex for piece in member))
        if fits(f"{lines[-1]} {text}"):
            lines[-1] = f"{lines[-1]} {text}"
            continue
        if lines[-1] and fits(f"{INDENT} {text}"):
            lines.append(f"{INDENT} {text}")
            continue
        for k, part in enumerate(trimmed(piece.tex) for piece in member):
            if lines[-1] and not fits(f"{lines[-1]} {part}"):
                lines.append(INDENT if k == 0 else INDENT * 2)
            lines[-1] = f"{lines[-1]} {part}"
    return [line.strip() for line in lines]


def after_relations(tex: str, fits: Callable[[str], bool], within: bool = False) -> Iterable[str]:
    """A formula of the text in parts between which a line may end; after + and −, and in brackets, where it must."""
    parts, found = [""], pieces(tex, within)
    for signs in (RELATIONS, RELATIONS | BINARY, RELATIONS | BINARY | {"/"}):
        parts = [""]
        for piece in found:
            if piece.sign in signs:
                parts[-1] += f"{piece.sign}{{}}"
                parts.append(piece.rest)
            else:
                parts[-1] += piece.tex
        if all(map(fits, parts)):
            break
    for part in parts:
        if trimmed(part) in ("", "{}"):
            continue
        if fits(part) or within:
            yield part
        else:
            yield from after_relations(part, fits, within=True)
