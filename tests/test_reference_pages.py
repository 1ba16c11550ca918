"""Glossary, changelog and citation: complete, in order, and of one version."""

import re

import nbformat
import yaml
from helpers import BOOK, NOTEBOOKS, ROOT, toc_entries

import reconlaw as rl

GLOSSARY = (BOOK / "glossary.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^([^\s`#(].*)\n((?:  .+\n)+)", GLOSSARY.split("```{glossary}")[1], flags=re.MULTILINE))


def prose(path):
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")


def test_glossary_is_in_order_short_and_linked():
    terms = list(ENTRIES)
    assert len(terms) > 80 and terms == sorted(terms, key=str.lower)
    pages = set(toc_entries())
    for term, text in ENTRIES.items():
        *saying, links = text.strip().splitlines()
        assert 1 <= len(re.findall(r"[.:?](?=\s|$)", " ".join(saying))) <= 4, f"{term}: a sentence or two"
        chapters = re.findall(r"\[\]\(/(\S+?)\.\w+\)", links)
        assert links.strip().startswith("Chapter") and chapters and set(chapters) <= pages, term


def test_glossary_has_every_definition_of_the_book():
    defined = {
        label
        for path in [*NOTEBOOKS, *BOOK.glob("*/*.md")]
        for label in re.findall(r"\{prf:definition\}.*\n:label: (\S+)", prose(path))
    }
    assert defined <= set(re.findall(r"\{prf:ref\}`(def-\S+?)`", GLOSSARY))


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\d\S+)", (BOOK / "changelog.md").read_text(), flags=re.MULTILINE)[1]
    assert newest == rl.__version__ == citation["version"]


def test_a_page_says_how_to_cite():
    front = prose(BOOK / "index.ipynb")
    assert "## Cite it" in front and "CITATION.cff" in front and "iurada2026law" in front


def test_one_letter_stands_for_the_change():
    """θ is what training changed, everywhere: neither Δθ for it, nor θ for a model's free parameters."""
    for path in [*(ROOT / "src").rglob("*.py"), *BOOK.rglob("*.ipynb"), *BOOK.rglob("*.md")]:
        found = re.search(r"Δθ|\\+Delta\s*\\+theta|∇_θ|f_\{?\\+theta", path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)}: {found.group()}"
