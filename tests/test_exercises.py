"""The exercises' checkers: right answers pass, and each typical mistake is told by its name.

A chapter's answers are ``RIGHT``, (checker, answer), and ``WRONG``, (checker, answer, words of the message), in its own
``test_exercises_*.py``.
"""

import importlib
from pathlib import Path

import pytest

CHAPTERS = [importlib.import_module(path.stem) for path in sorted(Path(__file__).parent.glob("test_exercises_*.py"))]


def cases(kind):
    return [
        pytest.param(*case, id=f"{chapter.__name__.removeprefix('test_exercises_')}-{case[0].__name__}")
        for chapter in CHAPTERS
        for case in getattr(chapter, kind)
    ]


@pytest.mark.parametrize(("check", "answer"), cases("RIGHT"))
def test_right_answers_pass(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out == "correct\n"


@pytest.mark.parametrize(("check", "answer", "message"), cases("WRONG"))
def test_wrong_answers_are_diagnosed(check, answer, message, capsys):
    with pytest.raises(AssertionError, match=message):
        check(answer)
    assert capsys.readouterr().out == ""
