"""What others call stays: the public names and their parameters, as ``public_face.json`` has them; more may be added.

After an addition, or a change that was meant, write the list anew: ``python tests/test_public_face.py``.
"""

import enum
import inspect
import json
from functools import cached_property
from pathlib import Path

from helpers import faces

LIST = Path(__file__).with_name("public_face.json")
PROPERTIES = (property, cached_property)


def parameters(thing):
    """[name, kind, default] of each; None of what is not called, and of an enumeration, whose call is Python's."""
    if inspect.isclass(thing) and issubclass(thing, enum.Enum):
        return None
    try:
        found = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return None
    return [[p.name, p.kind.name, "" if p.default is p.empty else repr(p.default)] for p in found]


def listing():
    made = {}
    for name, thing in faces().items():
        made[name] = parameters(thing) if callable(thing) else None
        if inspect.isclass(thing):
            members = inspect.getmembers(thing, lambda m: inspect.isfunction(m) or isinstance(m, PROPERTIES))
            made |= {f"{name}.{m}": parameters(value) for m, value in members if not m.startswith("_")}
    return dict(sorted(made.items()))


RECORDED = json.loads(LIST.read_text(encoding="utf-8")) if LIST.exists() else {}


def test_the_list_is_not_empty():
    assert len(RECORDED) > 100 and "reconstruct" in RECORDED and "networks.TwoLayer" in RECORDED


def what_changed(name, before, now):
    if name not in now:
        return f"{name} is gone"
    if before is None:
        return None
    kept = [p for p in now[name] if p[0] in {q[0] for q in before}]
    if kept != before:
        return f"{name} is called otherwise"
    if not all(p[2] or p[1].startswith("VAR_") for p in now[name] if p not in kept):
        return f"{name} has a new parameter without a default"
    return None


def test_public_names_keep_their_parameters():
    now = listing()
    changes = [what_changed(name, before, now) for name, before in RECORDED.items()]
    assert not [change for change in changes if change]


def test_a_name_that_goes_and_a_parameter_that_changes_are_found():
    now = {"f": [["x", "POSITIONAL_OR_KEYWORD", "2"], ["y", "POSITIONAL_OR_KEYWORD", ""]]}
    assert "gone" in what_changed("g", None, now)
    assert "otherwise" in what_changed("f", [["x", "POSITIONAL_OR_KEYWORD", "1"]], now)
    assert "new parameter" in what_changed("f", [["x", "POSITIONAL_OR_KEYWORD", "2"]], now)


if __name__ == "__main__":
    rows = (f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in listing().items())
    LIST.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
