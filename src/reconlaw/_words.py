"""Numbers and lists in messages, as people say them."""

from __future__ import annotations

from collections.abc import Iterable


def many(count: int, noun: str, nouns: str | None = None) -> str:
    """A number with its noun: "1 sample", "20 samples".

    Args:
        count: how many.
        noun: for one.
        nouns: for any other number; the noun and an s where None.
    """
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


def some(names: Iterable[object], most: int = 12, none: str = "nothing") -> str:
    """The first of many names, at ``most``, and how many more there are."""
    every = [str(name) for name in names]
    return (", ".join(every[:most]) or none) + (f" and {len(every) - most} more" if len(every) > most else "")
