"""The exercises' checkers: right answers pass, and each typical mistake is told by its name.

A chapter's answers are ``RIGHT``, (checker, answer), and ``WRONG``, (checker, answer, words of the message), in its own
``test_exercises_*.py``.
"""

import inspect
import re
import sys

import nbformat
import pytest
from helpers import exercise_cases
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

from reconlaw import exercises
from reconlaw.exercises import _diagnose


@pytest.mark.parametrize(("check", "answer"), exercise_cases("RIGHT"))
def test_right_answers_pass(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out == "correct\n"


@pytest.mark.parametrize(("check", "answer", "message"), exercise_cases("WRONG"))
def test_wrong_answers_are_diagnosed(check, answer, message, capsys):
    with pytest.raises(AssertionError, match=message):
        check(answer)
    assert capsys.readouterr().out == ""


@pytest.fixture
def shell():
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


@pytest.mark.parametrize("name", [name for name in exercises.__all__ if name.startswith("check_")])
def test_a_failing_checker_shows_no_line_of_its_source(shell, capsys, name):
    """Through a shell, as a notebook would show it: the source holds the right answer and every hint."""
    ran = shell.run_cell(f"import reconlaw as rl\nrl.exercises.{name}(lambda *given, **named: None)")
    shown = capsys.readouterr()
    assert not ran.success
    assert (shown.out + shown.err).strip() == "your function returned None: is the return statement missing?"


def test_a_wrong_answer_shows_its_message_alone(shell, capsys):
    shell.run_cell("import torch, reconlaw as rl\nrl.exercises.check_int8_noise(lambda theta: theta.norm())")
    shown = capsys.readouterr()
    assert "not yet: your answer is off by" in (shown.out + shown.err)
    assert len((shown.out + shown.err).strip().splitlines()) == 1


def test_an_error_of_the_readers_own_shows_the_readers_lines_and_not_the_checkers(shell, capsys):
    shell.run_cell(
        "import reconlaw as rl\ndef mine(theta):\n    return theta / nothing\n\nrl.exercises.check_int8_noise(mine)"
    )
    shown = re.sub(r"\x1b\[[\d;]*m", "", "".join(capsys.readouterr()))  # without its colours
    assert "return theta / nothing" in shown and "NameError" in shown
    source = inspect.getsource(inspect.unwrap(exercises.check_int8_noise))
    lines = [line.strip() for line in source.splitlines() if len(line.strip()) > 20]
    assert not [line for line in lines if line in shown]


def test_a_notebook_that_is_executed_keeps_the_message_alone():
    """What a reader's file holds after a wrong answer, and so what is printed and shared."""
    source = (
        "import reconlaw as rl\n\ndef length(theta):\n    return theta.norm()\n\nrl.exercises.check_int8_noise(length)"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, timeout=600, startup_timeout=600, kernel_name="python3", allow_errors=True).execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "error" and output.ename == "NotYet"
    assert len(output.traceback) == 1 and output.traceback[0].startswith("not yet: your answer is off by")


def test_what_is_no_function_and_what_cannot_be_used_are_said(capsys):
    with pytest.raises(exercises.NotYet, match="pass your function"):
        exercises.check_int8_noise(0.3)
    with pytest.raises(exercises.NotYet, match="could not be used|return a tensor"):
        exercises.check_noise_bound(lambda *given: "a word")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("check", "answer"), exercise_cases("RIGHT"))
def test_every_mistake_that_a_checker_names_can_be_told_from_the_right_answer(monkeypatch, check, answer):
    """A mistake that equals the right answer on all inputs of a checker would pass as correct."""
    told, unheard = set(), set()

    def spy(given, expected, mistakes=(), tolerance=1e-6):
        right, before = _diagnose._tensor(expected), []
        for wrong, message in mistakes:
            wrong = _diagnose._tensor(wrong)
            heard = not any(_diagnose._equal(wrong, value, tolerance) for value in [right, *before])
            (told if heard else unheard).add(message)
            before.append(wrong)

    monkeypatch.setattr(sys.modules[check.__module__], "diagnose", spy)
    check(answer)
    assert unheard - told == set()
