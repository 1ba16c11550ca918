"""The works of `references.bib`, as the text names them and as a list gives them."""

from __future__ import annotations

from pybtex.database import Entry
from pybtex.richtext import Text


def without_tex(text: str) -> str:
    return str(Text.from_latex(text))


def who(work: Entry) -> str:
    names = [without_tex(" ".join(person.prelast_names + person.last_names)) for person in work.persons["author"]]
    if len(names) > 2:
        return f"{names[0]} et al."
    return " and ".join(names)


def full(work: Entry) -> str:
    """One line for the list of references."""
    people = work.persons["author"]
    parts = ([*p.first_names, *p.middle_names, *p.prelast_names, *p.last_names] for p in people)
    names = ", ".join(without_tex(" ".join(part)) for part in parts)
    fields = {
        key: value if key in ("doi", "url", "eprint") else without_tex(value) for key, value in work.fields.items()
    }
    venue = fields.get("journal") or fields.get("booktitle") or fields.get("publisher") or ""
    place = ", ".join(filter(None, [venue, fields.get("year")]))
    if "doi" in fields:
        link = f"https://doi.org/{fields['doi']}"
    elif "eprint" in fields:
        link = f"https://arxiv.org/abs/{fields['eprint']}"
    else:
        link = fields.get("url", "")
    return f"{names}. *{fields['title']}*. {place}.{f' <{link}>' if link else ''}"
