"""The course: stubs fail and solutions pass, nothing is given away, minutes add up, slides fit, questions are whole."""

import ast
import builtins
import contextlib
import io
import os
import re
import sys
from importlib import metadata

import nbformat
import pytest
from browsing import SITE
from helpers import BOOK, ROOT, toc_entries

sys.path.insert(0, str(BOOK / "_ext"))

import quiz
import tracks
from course import browser, handout, notebooks, slides
from course.__main__ import write
from course.myst import Block, blocks
from course.plain import Book, Exercise

COURSE = Book(ROOT)
EXERCISES = [(c, e) for c in COURSE.chapters for e in c.exercises.values()]
CHECKED = [(c, e) for c, e in EXERCISES if e.checks]
MYST = re.compile(r"\{[a-z][\w:-]*\}`|^(?:`{3,}|:{3,})\{|^\([\w-]+\)=\s*$", re.MULTILINE)
QUIZZES = {part["caption"]: part["chapters"][-1]["file"] for part in COURSE.toc["parts"] if part.get("numbered")}
GUIDE = (BOOK / "teach" / "guide.md").read_text(encoding="utf-8")

each_chapter = pytest.mark.parametrize("chapter", COURSE.chapters, ids=lambda c: c.stem)
each_checked = pytest.mark.parametrize("chapter, exercise", CHECKED, ids=[e.label for _, e in CHECKED])
IN_CI = os.environ.get("CI") == "true"  # where nothing is skipped
with_browser = pytest.mark.skipif(not IN_CI and browser.find() is None, reason="no Chromium on this machine")
with_site = pytest.mark.skipif(
    not IN_CI and not (SITE / "geometry/quiz.html").is_file(), reason="the site is not built: make book"
)


# Exercises


def statements(source):
    return ast.parse(re.sub(r"^\s*[%!].*$", "pass", source, flags=re.MULTILINE)).body


def bound(statement):
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def used(statement):
    """The names that a statement takes from outside."""
    nodes = list(ast.walk(statement))
    inside = {n.arg for n in nodes if isinstance(n, ast.arg)}
    scopes = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    scopes += [n.target for n in nodes if isinstance(n, ast.comprehension)]
    for scope in scopes:
        inside |= {n.id for n in ast.walk(scope) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        inside |= {n.name for n in ast.walk(scope) if isinstance(n, ast.FunctionDef) and n is not statement}
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)} - inside


def before(chapter, exercise=None):
    """The chapter's statements up to an exercise, without the cell that installs the package."""
    found = [ast.parse("import reconlaw as rl").body[0]]
    for item in chapter.items:
        if item is exercise:
            break
        if not isinstance(item, Block | Exercise) and "ModuleNotFoundError" not in item.source:
            found += statements(item.source)
    return found


def run(chapter, exercise, answer):
    """The checkers, on an answer, with no more of the chapter than they need; what they print."""
    goal = statements("\n".join(exercise.checks))
    wanted, needed = set().union(*map(used, goal)), []
    for statement in reversed(before(chapter, exercise) + statements(answer)):
        names = bound(statement) & wanted
        if names:
            needed.insert(0, statement)
            wanted = (wanted - names) | used(statement)
    module = ast.Module(needed + goal, type_ignores=[])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(module, f"<{exercise.label}>", "exec"), {})
    return printed.getvalue()


@each_checked
def test_solution_passes(chapter, exercise):
    assert run(chapter, exercise, exercise.code) == "correct\n" * len(exercise.checks)


@each_checked
def test_stub_fails_and_says_so(chapter, exercise):
    stub = notebooks.with_message(exercise.stub)
    with pytest.raises((NotImplementedError, AssertionError), match=r"\w+ \w+"):
        run(chapter, exercise, stub)


@each_chapter
def test_exercises_are_complete(chapter):
    assert len(chapter.exercises) >= 3
    assert sum(bool(e.checks) for e in chapter.exercises.values()) >= 2, "too few checkers"
    for exercise in chapter.exercises.values():
        assert re.search(r"\*\* \([●○]{3}, \d+ minutes\)", exercise.text), f"{exercise.label}: difficulty and minutes"
        assert exercise.solution, f"{exercise.label}: no solution"
        assert bool(exercise.stub) == bool(exercise.checks), f"{exercise.label}: a stub needs a checker, and it a stub"
        if exercise.stub:
            name = re.search(r"^def (\w+)", exercise.stub, re.MULTILINE)[1]
            assert f"({name})" in exercise.checks[0], f"{exercise.label}: the checker is not given {name}"


@each_chapter
def test_two_hints_stand_between_exercise_and_solution(chapter):
    at_the_end = r":::\{dropdown\} Hint 1\n.+\n:::\n:::\{dropdown\} Hint 2\n.+\n:::\n```\{exercise-end\}\n```"
    sources = [cell.source for cell in chapter.notebook.cells if cell.cell_type == "markdown"]
    copies = [notebooks.write(chapter, solved=solved) for solved in (False, True)]
    for exercise in chapter.exercises.values():
        assert [hint.argument for hint in exercise.hints] == ["Hint 1", "Hint 2"], f"{exercise.label}: two hints"
        (source,) = (s for s in sources if f":label: {exercise.label}\n" in s)
        assert re.search(at_the_end, source), f"{exercise.label}: the hints end the exercise, a paragraph each"
        for hint in exercise.hints:
            assert 5 < len(hint.body.split()) <= 60, f"{exercise.label}: {hint.argument} is too long or too short"
            folded = f"<summary>{hint.argument}</summary>\n\n{chapter.plain(hint.body)}\n\n</details>"
            for copy in copies:
                assert any(folded in cell.source for cell in copy.cells), f"{exercise.label}: {hint.argument} is kept"


# Notebooks


@each_chapter
def test_student_copy_gives_no_solution_away(chapter):
    student = notebooks.write(chapter, solved=False)
    nbformat.validate(student)
    sources = [cell.source for cell in student.cells]
    assert not any(cell.get("outputs") for cell in student.cells)
    for exercise in chapter.exercises.values():
        if exercise.stub:
            assert notebooks.stub_cell(exercise) in sources
        text = "\n".join(sources)
        for part in exercise.solution:
            piece = chapter.plain(part.body) if isinstance(part, Block) else part.source
            assert piece.strip() and piece not in text


@each_chapter
@pytest.mark.parametrize("solved", [False, True], ids=["student", "solved"])
def test_notebooks_are_plain(chapter, solved):
    macros = re.compile(rf"\\(?:{'|'.join(COURSE.macros)})(?![A-Za-z])")
    for cell in notebooks.write(chapter, solved).cells:
        if cell.cell_type == "markdown":
            assert not MYST.search(cell.source), MYST.search(cell.source)
            assert not macros.search(cell.source), macros.search(cell.source)


@each_chapter
def test_no_cell_needs_a_solution(chapter):
    """A student's copy runs from top to bottom, whatever is still open."""
    solved = {name for e in chapter.exercises.values() for s in statements(e.code) for name in bound(s)}
    known = {*dir(builtins), "rl"}
    for statement in before(chapter):
        missing = (used(statement) & solved) - known
        known |= bound(statement)
        assert not missing - known, f"line {statement.lineno} uses {missing - known} of a solution"


def test_directives_that_are_unknown_keep_their_words():
    chapter = COURSE.chapters[0]
    (block,) = blocks(":::{sidebar} A title\n:class: x\n\nSome {abbr}`words` and {math}`x`.\n:::")
    assert chapter.statement(block) == "**Sidebar (A title).** \nSome *words* and $x$.".replace(" \n", " ")


# Slides and handout


def test_slides_are_written_and_reach_no_network(tmp_path):
    for chapter, deck in zip(COURSE.chapters, slides.write_all(COURSE, tmp_path), strict=True):
        page = deck.read_text(encoding="utf-8")
        assert not MYST.search(page), MYST.search(page)
        assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]+"(?=[^>]*(?:rel="stylesheet"|></script>))', page)
        for source in re.findall(r'src="([^"]+)"', page):
            assert (tmp_path / source).is_file(), f"{deck.stem}: {source}"
        for exercise in chapter.exercises.values():
            for part in exercise.solution:
                assert (part.body if isinstance(part, Block) else slides.coloured(part.source)) not in page


@with_browser
def test_slides_fit(tmp_path):
    decks = {deck.stem: deck for deck in slides.write_all(COURSE, tmp_path)}
    with browser.page(viewport={"width": 1280, "height": 720}) as tab:
        for stem in ("random-features", "the-law"):
            assert browser.open_deck(tab, decks[stem]) > 20
            assert browser.overflowing(tab) == []
            filled = tab.locator("[data-filled]").evaluate_all("all => all.map(one => Number(one.dataset.filled))")
            assert sum(share < 0.5 for share in filled) <= 0.05 * len(filled), "slides that stand half empty"
            assert tab.locator("mjx-merror, [data-mjx-error]").count() == 0
            assert tab.complaints == []
            tab.evaluate("() => Reveal.slide(0, 0)")
            tab.keyboard.press("Space")
            assert tab.evaluate("() => Reveal.getSlidePastCount()") == 1


def test_without_a_browser_the_rest_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(browser, "find", lambda: None)
    assert write(tmp_path / "course")
    said = capsys.readouterr()
    assert "no handout.pdf and no look at the slides" in said.err and "chromium" in said.err
    index = (tmp_path / "course" / "index.html").read_text(encoding="utf-8")
    for target in re.findall(r'href="([^":]+)"', index):
        assert (tmp_path / "course" / target).is_file(), target
    answers = (tmp_path / "course" / "answers.html").read_text(encoding="utf-8")
    questions = re.findall(r"^### (Question \d+: .+?) \(", (BOOK / "teach/assessment.md").read_text(), re.MULTILINE)
    assert questions and re.findall(r"<h2>(.+?)</h2>", answers) == questions


def test_handout_holds_the_chapters_and_not_the_teaching_pages():
    _, toc = handout.settings(COURSE)
    kept = [c["file"] for part in toc["parts"] for c in part["chapters"]]
    assert {chapter.entry for chapter in COURSE.chapters} <= set(kept)
    assert not any(entry.startswith("teach/") or entry == "playground" for entry in kept)


def test_a_chapter_has_one_number_on_paper_and_in_the_course():
    """Sphinx numbers what stands in the numbered parts, so paper leaves out nothing of these."""

    def counted(toc):
        return [c["file"] for part in toc["parts"] if part.get("numbered") for c in part["chapters"]]

    _, toc = handout.settings(COURSE)
    assert counted(toc) == counted(COURSE.toc)
    numbered = [entry for entry in counted(toc) if not entry.endswith("/quiz")]
    assert all(numbered[chapter.number - 1] == chapter.entry for chapter in COURSE.chapters)


@with_site
def test_the_site_counts_chapters_as_the_course_does():
    page = (SITE / "index.html").read_text(encoding="utf-8")
    shown = {entry: int(number) for entry, number in re.findall(r'href="([\w/-]+)\.html">(\d+)\. ', page)}
    assert {chapter.entry: chapter.number for chapter in COURSE.chapters}.items() <= shown.items()


@with_browser
def test_contents_of_the_handout_name_the_pages(tmp_path):
    sections = "".join(f'<h2 id="c-{k}" style="break-before: page">Chapter {k}</h2>' for k in (1, 2, 3))
    lines = "".join(f'<a href="#c-{k}">Chapter {k} <span class="page">000</span></a>' for k in (1, 2, 3))
    (tmp_path / "book.html").write_text(f'<div class="contents">{lines}</div>{sections}', encoding="utf-8")
    with browser.page() as tab:
        tab.goto((tmp_path / "book.html").as_uri())
        handout.number_contents(tab)
        assert tab.locator(".page").all_text_contents() == ["2", "3", "4"]


def shows_whole_parts_and_nothing_for_the_screen(tab):
    parts = "".join(f'<section style="height: {height}px">part</section>' for height in (200, 500, 400))
    window = f"<iframe style='width: 100%; height: 34rem' srcdoc='<main>{parts}<footer>end</footer></main>'></iframe>"
    folds = "<details><summary>How</summary></details><details open><summary>Proof</summary></details>"
    tab.set_content(f'<article class="bd-article">{window}{folds}<p class="onscreen">Here it runs.</p></article>')
    tab.add_style_tag(path=handout.HERE / "handout.css")
    tab.emulate_media(media="print")
    tab.evaluate(handout.WINDOWS)
    frame = tab.frames[1]
    assert frame.locator("section").count() == 2 and frame.locator("footer").is_visible()
    tall, page = tab.locator("iframe").bounding_box()["height"], 259 * 96 / 25.4
    assert frame.evaluate("document.documentElement.scrollHeight") <= tall <= page
    assert tab.locator("details").evaluate_all("all => all.map(e => e.checkVisibility())") == [False, True]
    assert not tab.locator(".onscreen").is_visible()


@with_browser
def test_handout_holds_what_a_page_can_and_keeps_numbers_by_their_titles():
    _, toc = handout.settings(COURSE)
    heading = '<h2><span class="section-number">7. </span>A title</h2>'
    section = f'<section id="a">{heading}</section>'
    body = "".join(f'<div class="toctree-wrapper">{section * len(part["chapters"])}</div>' for part in toc["parts"])
    with browser.page(viewport={"width": 658, "height": 1123}) as tab:  # A4 between its margins
        tab.set_content(f'<article class="bd-article">{body}</article>')
        for theme in ("pydata_sphinx_theme", "sphinx_book_theme"):
            name = theme.replace("_", "-")
            (styles,) = [file for file in metadata.files(name) if file.match(f"styles/{name}.css")]
            tab.add_style_tag(path=styles.locate())
        tab.add_style_tag(path=BOOK / "_assets" / "custom.css")
        captions = [part["caption"] for part in toc["parts"]]
        tab.evaluate((handout.HERE / "handout.js").read_text(encoding="utf-8"), ["Title", "", captions])
        tab.add_style_tag(path=handout.HERE / "handout.css")
        tab.emulate_media(media="print")
        line = tab.locator(".contents a").first.locator("span").first
        assert line.inner_text() == "7. A title" and line.bounding_box()["width"] < 120
        millimetres = tab.locator(".contents").bounding_box()["height"] * 25.4 / 96
        assert millimetres <= 240, "259 are there, and formulas in titles take some"
        shows_whole_parts_and_nothing_for_the_screen(tab)


# Questions at the end of a part


@pytest.mark.parametrize("part, entry", QUIZZES.items(), ids=lambda x: x)
def test_part_ends_with_questions(part, entry):
    assert entry.endswith("/quiz"), f"{part} ends with {entry}"
    text = (BOOK / f"{entry}.md").read_text(encoding="utf-8")
    questions = [block for block in blocks(text) if block.kind == "quiz"]
    assert 4 <= len(questions) <= 8
    places = []
    for block in questions:
        question, choices = quiz.parse(block.body.splitlines())
        assert len(choices) >= 3 and "".join(question).strip()
        assert all(len(" ".join(feedback)) > 30 for *_, feedback in choices), question
        places.append([right for right, *_ in choices].index(True))
    assert len(set(places)) > 1, "the right answer is always at the same place"


@pytest.mark.parametrize(
    "lines, complaint",
    [
        (["Why?", "(x) so", ": yes", "(x) so", ": yes"], "exactly one"),
        (["Why?", "( ) so", ": no"], "exactly one"),
        (["Why?", "(x) so", "( ) not so", ": no"], "every choice"),
        (["Why?", "(x) so", "stray"], "neither"),
    ],
)
def test_incomplete_question_is_refused(lines, complaint):
    with pytest.raises(ValueError, match=complaint):
        quiz.parse(lines)


@with_browser
@with_site
def test_questions_work_by_keyboard_and_without_scripts():
    address = (SITE / "geometry/quiz.html").as_uri()
    with browser.page() as tab:
        tab.goto(address)
        first = tab.locator(".quiz").first
        wrong = first.locator("details[data-right=false]").first
        assert not wrong.locator(".quiz-feedback").is_visible()
        wrong.locator("summary").focus()
        tab.keyboard.press("Enter")
        assert wrong.locator(".quiz-feedback").is_visible()
        assert "Not quite." in wrong.inner_text()
        tab.get_by_text("1 of 6 answered, 0 right at the first try.").wait_for()
        tab.get_by_role("button", name="Start over").click()
        assert not wrong.locator(".quiz-feedback").is_visible()
        assert tab.complaints == []
    with browser.page(java_script_enabled=False) as tab:
        tab.goto(address)
        choice = tab.locator("details[data-right=true]").first
        choice.locator("summary").click()
        assert choice.locator(".quiz-feedback").is_visible()


# The instructor's pages


def plans():
    """The tables of minutes: heading, rows, and the total at the end."""
    for heading, body in re.findall(r"^#{2,3} (.+?)$(.*?)(?=^#{2,3} |\Z)", GUIDE, re.MULTILINE | re.DOTALL):
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in re.findall(r"^\|.*\|$", body, re.MULTILINE)
        ]
        if rows and rows[0][0] == "Minutes":
            yield heading, rows[2:-1], int(rows[-1][0].strip("*"))


def test_minutes_add_up():
    totals = {}
    for heading, rows, total in plans():
        assert sum(int(row[0]) for row in rows) == total, heading
        totals[heading] = total
    assert totals.pop("A lecture of 90 minutes") == 90
    assert totals.pop("A lab of three hours") == 180
    assert list(totals.values()) == [270] * 4


def test_plans_name_sections_and_exercises_that_exist():
    headings = {
        chapter.entry: {
            slides_heading(h) for item in chapter.items if isinstance(item, Block) for h in titles(item.body)
        }
        for chapter in COURSE.chapters
    }
    for heading, rows, _ in plans():
        for row in rows:
            for path, sections in re.findall(r"\[[^\]]*\]\(\.\./([^)]+)\.ipynb\)(?:: ([^|<]+))?", " | ".join(row[2:3])):
                for section in filter(None, sections.split(";")):
                    assert slides_heading(section) in headings[path], f"{heading}: {path} has no section {section!r}"
            minutes = [minutes_of(label) for label in re.findall(r"\{ref\}`([\w-]+)`", row[3] if len(row) > 3 else "")]
            assert sum(minutes) <= int(row[0]), f"{heading}: {row[1]}: exercises of {sum(minutes)} minutes"


def test_the_core_path_takes_ninety_minutes():
    """And names where to stop by a heading that is there, with no more to read than its minutes hold."""
    text = "\n".join(cell.source for cell in nbformat.read(BOOK / "index.ipynb", 4).cells)
    steps = re.findall(r"^\d\. .*?\(([\w/-]+)\.(?:md|ipynb)\)(.*)$", text, re.MULTILINE)
    minutes = [int(m[1]) if (m := re.search(r"\((\d+) minutes\)", rest)) else 10 for _, rest in steps]
    assert len(steps) == 6 and "If you have 90 minutes" in text and sum(minutes) == 90
    for (path, rest), given in list(zip(steps, minutes, strict=True))[1:]:
        core, _ = tracks.core(BOOK / f"{path}.ipynb")
        if stop := re.search(r"before \*(.+?)\*", rest):
            assert f"## {stop[1]}\n" in core, f"{path} has no section {stop[1]!r} in its core"
            core = core.split(f"## {stop[1]}\n")[0]
        assert len(tracks.words(core)) <= 100 * given, f"{path}: too much for {given} minutes"


def titles(text):
    return re.findall(r"^#{2,3} (.+)$", text, re.MULTILINE)


def slides_heading(text):
    return text.strip().rstrip(".")


def minutes_of(label):
    exercise = COURSE.labels[label].chapter.exercises[label]
    return int(re.search(r"(\d+) minutes\)", exercise.text)[1])


@pytest.mark.parametrize(
    "page", ["teach/guide", "teach/goals", "teach/misconceptions", "teach/assessment", *QUIZZES.values()]
)
def test_pages_refer_to_what_exists(page):
    text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
    for label in re.findall(r"\{(?:prf:)?(?:ref|numref)\}`(?:[^<`]*<)?([\w-]+)>?`", text):
        assert label in COURSE.labels, f"{page}: {label}"
    for target in re.findall(r"\]\((\.\./[^)#]+|\w[^):#]*\.(?:md|ipynb))", text):
        assert (BOOK / page).parent.joinpath(target).is_file(), f"{page}: {target}"


def test_every_chapter_has_learning_goals():
    goals = (BOOK / "teach" / "goals.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\*\*\[\]\(\.\./([^)]+)\.ipynb\)", goals, re.MULTILINE)
    assert listed == [chapter.entry for chapter in COURSE.chapters]


def test_points_of_the_questions_add_up():
    text = (BOOK / "teach" / "assessment.md").read_text(encoding="utf-8")
    points = [int(p) for p in re.findall(r"^### Question \d+: .+ \((\d+) points\)$", text, re.MULTILINE)]
    assert len(points) == 8
    assert re.search(r"Eight questions with rubrics, (\d+) points", text)[1] == str(sum(points))
    assert re.search(r"first six \((\d+) points\)", text)[1] == str(sum(points[:6]))


def test_answers_stand_apart():
    pages = [*(BOOK / "teach").glob("*.md")]
    assert not any("answers/assessment" in page.read_text(encoding="utf-8") for page in pages)
    assert "teach/answers/assessment" not in toc_entries()


def test_what_the_site_folds_is_open_on_paper_and_slides():
    source = "Before.\n\n:::::{dropdown} Proof\n::::{prf:proof}\nBecause.\n::::\n:::::\n\nAfter."
    assert [(block.kind, block.body) for block in blocks(source)] == [
        ("text", "Before."),
        ("prf:proof", "Because."),
        ("text", "After."),
    ]


def test_a_fold_that_is_no_proof_keeps_its_title():
    source = ":::{dropdown} The six vectors\nThey sum to zero.\n:::"
    assert [block.body for block in blocks(source)] == ["**The six vectors**\n\nThey sum to zero."]


@each_chapter
def test_what_is_to_be_predicted_is_asked_before_it_is_answered(chapter, tmp_path):
    asked = [item for item in chapter.items if isinstance(item, Block) and item.kind == "predict"]
    told = "\n".join(cell.source for cell in notebooks.write(chapter, solved=False).cells)
    deck = slides.Deck(chapter, tmp_path)
    shown = re.sub(r"<aside class=.notes.>.*?</aside>", "", deck.page(), flags=re.DOTALL)
    for block in asked:
        question, answer = chapter.plain(block.argument), chapter.plain(block.body)
        assert told.index(question) < told.index(answer)
        assert deck.render(f"**{question}**") in shown and deck.render(answer) not in shown
    assert asked or "Predict:" not in "".join(cell.source for cell in chapter.notebook.cells)


def test_hints_are_kept_apart():
    source = "What?\n\n:::{dropdown} Hint 1\nLook.\n:::\n:::{dropdown} Hint 2\nSee.\n:::"
    kept = [(block.kind, block.argument, block.body) for block in blocks(source)]
    assert kept == [("text", "", "What?"), ("dropdown", "Hint 1", "Look."), ("dropdown", "Hint 2", "See.")]
