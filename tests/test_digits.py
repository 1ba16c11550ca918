"""The list of printed numbers that another rounding could turn: what is on it, and what is not."""

import ast

import digits
import pytest
import torch


@pytest.mark.parametrize(
    ("values", "spec", "turns"),
    [
        ([0.749, 0.7495, 0.7499], ".1f", True),
        ([0.72, 0.7201, 0.7202], ".1f", False),
        ([0.05, 0.05, 0.05], ".1f", False),  # the same on all machines
        ([1e-17, 2e-17, 3e-17], ".2f", False),  # a size that rounds to zero
        ([1e-17, -2e-17, 3e-17], ".2f", True),
        ([3e-9, 4e-9, 9e-9], ".0e", True),
        ([17, 17, 17], "", False),
        ([17, 18, 17], "", True),
        ([0.5, 3, 0.5], "", True),
        ([torch.tensor([1.0, 0.12345]), torch.tensor([1.0, 0.123451])], "", True),
        ([torch.tensor([1.0, 0.1234]), torch.tensor([1.0, 0.1234])], "", False),
        ([torch.tensor([1, 2]), torch.tensor([1, 2])], "", False),
    ],
)
def test_what_could_turn_is_told(values, spec, turns):
    assert (digits.near(values, spec) is not None) == turns


def test_numbers_pass_through_with_their_formats(monkeypatch):
    seen = []
    code = 'x, w = 1.25, 8\nprint(text := f"{x:{w}.1f} of {x!r}, {x:.0f} s, {x:.2f} samples", w)'
    tree = ast.fix_missing_locations(digits.Marks("cell").visit(ast.parse(code)))
    scope = {"_seen": lambda value, spec, place: seen.append((value, spec)) or value, "print": lambda *given: None}
    exec(compile(tree, "cell", "exec"), scope)
    assert scope["text"] == "     1.2 of 1.25, 1 s, 1.25 samples"
    assert seen[:2] == [(1.25, "8.1f"), (1.25, ".2f")] and seen[-1] == (8, "")
