"""The house: no circle of imports, no module behind a function of its name, a public face annotated and described."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from helpers import faces, git_lists

import reconlaw as rl

ROOT = Path(rl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def name_of(file):
    parts = ("reconlaw", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in FILES}


def imported(file):
    """Modules of the package that a file imports, within functions too."""
    name, found = name_of(file), set()
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            found |= {full if (full := f"{base}.{one.name}") in MODULES else base for one in node.names}
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
    return (found & set(MODULES)) - {name}


def circle(arrows):
    """A circle of a graph, or None."""
    done = set()

    def walk(name, path):
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return None
        found = next((c for other in sorted(arrows.get(name, ())) if (c := walk(other, [*path, name]))), None)
        done.add(name)
        return found

    return next((c for name in sorted(arrows) if (c := walk(name, []))), None)


def test_no_imports_go_in_a_circle_not_even_those_within_functions():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    arrows = {name_of(file): imported(file) for file in FILES}
    assert "reconlaw.auditing.report" in arrows["reconlaw.auditing.audit"]
    assert circle(arrows) is None


def test_no_module_stands_behind_a_function_of_its_name():
    for package in (rl, *(getattr(rl, name) for name in ("data", "exercises", "inputs", "networks"))):
        for name, thing in vars(package).items():
            if f"{package.__name__}.{name}" in MODULES:
                assert inspect.ismodule(thing), f"{package.__name__}.{name} is a {type(thing).__name__}, and a module"


# --- the public face -------------------------------------------------------------------------------------------------


def functions():
    """Name → function of all that is public, each once, with the docstring that describes its arguments."""
    made, seen = {}, set()
    for name, thing in faces().items():
        if not callable(thing):
            continue
        members = {name: (thing, inspect.getdoc(thing) or "")}
        if inspect.isclass(thing):
            members = {name: (thing.__init__, inspect.getdoc(thing) or "")}
            for member, value in inspect.getmembers(thing, inspect.isfunction):
                if not member.startswith("_"):
                    members[f"{name}.{member}"] = (value, inspect.getdoc(value) or "")
        for full, (value, doc) in members.items():
            value = inspect.unwrap(value)
            if inspect.isfunction(value) and value.__module__.startswith("reconlaw") and value not in seen:
                seen.add(value)
                made[full] = (value, doc)
    return made


FUNCTIONS = functions()


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_argument_and_result_of_the_public_face_is_annotated(name):
    signature = inspect.signature(FUNCTIONS[name][0])
    bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name != "self"]
    if signature.return_annotation is signature.empty and FUNCTIONS[name][0].__name__ != "__init__":
        bare.append("its result")
    assert not bare


def entries(doc):
    """Section → name → text of a docstring in Google's style."""
    found, section, name = {}, None, None
    for line in doc.splitlines():
        head = re.fullmatch(r"(\w+):", line)
        item = re.fullmatch(r"    (\*{0,2}[^\W\d]\w*(?:, \w+)*): (.*)", line)
        if head:
            section, name = found.setdefault(head[1], {}), None
        elif line and not line.startswith(" "):
            section = None
        elif section is not None and item:
            name = item[1].lstrip("*")
            section[name] = item[2]
        elif section is not None and name and line.startswith("        "):
            section[name] += " " + line.strip()
    return found


def faults(doc, names, tensors=()):
    """What is wrong with a docstring's lists of arguments and attributes, where it has them."""
    made, sections = [], entries(doc)
    for section in ("Args", "Attributes"):
        listed = sections.get(section, {})
        for name, text in listed.items():
            if ", " in name:
                made.append(f"{section}: {name!r} are several in one line")
            # napoleon shows the second of "a: this. b: that" as a part of the first
            made += [f"{section}: {second!r} in the line of {name!r}" for second in re.findall(r"\. (\w+): ", text)]
    listed = sections.get("Args", {})
    if listed:
        made += [f"{name!r} is not described" for name in names if name not in listed]
        made += [f"{name!r} is described, and no argument" for name in listed if name not in names]
        made += [f"{name!r} has no shape" for name in tensors if name in listed and "(" not in listed[name]]
    return made


def test_faults_of_docstrings_are_found():
    doc = "What.\n\nArgs:\n    a: this. b: that.\n    c, d: both.\n    e: of\n        two lines.\n    z: a tensor.\n"
    assert faults(doc, ["a", "b", "e", "z"], ["z"]) == [
        "Args: 'b' in the line of 'a'",
        "Args: 'c, d' are several in one line",
        "'b' is not described",
        "'c, d' is described, and no argument",
        "'z' has no shape",
    ]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_argument_of_the_public_face_has_a_line_and_every_tensor_a_shape(name):
    function, doc = FUNCTIONS[name]
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    tensors = [p.name for p in parameters if str(p.annotation).startswith("torch.Tensor")]
    assert doc.strip()
    assert not faults(doc, [p.name for p in parameters], tensors)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_docstring_describes_two_in_one_line(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and (doc := ast.get_docstring(node)):
            found = [fault for fault in faults(doc, []) if "line" in fault]
            assert not found, f"{getattr(node, 'name', 'module')}: {found}"


# --- draws ------------------------------------------------------------------------------------------------------------

DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli"}


def draws_without_a_device(text):
    """Draws of torch that would follow ``torch.set_default_device``, which the generators, of the CPU, do not."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in DRAWS:
            named = {keyword.arg for keyword in node.keywords}
            if getattr(node.func.value, "id", None) == "torch" and not named & {"device", None}:
                yield ast.unparse(node)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_draws_name_their_device(file):
    assert list(draws_without_a_device("import torch\ntorch.randn(3, generator=g)"))
    assert not list(draws_without_a_device(file.read_text(encoding="utf-8")))


MAKERS = {"zeros", "ones", "eye", "full", "empty", "tensor", "arange", "linspace", "logspace", "triu_indices"}


def made_without_a_device(text):
    """Tensors that would lie where ``torch.set_default_device`` says, unless they are moved at once."""
    tree = ast.parse(text)
    moved = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "to"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MAKERS:
            named = {keyword.arg for keyword in node.keywords}
            if getattr(node.func.value, "id", None) == "torch" and not named & {"device", None} | {id(node)} & moved:
                yield ast.unparse(node)


ELSEWHERE = ["torch.zeros(())"]  # a number goes with tensors of any device


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.name != "exercises"], ids=name_of)
def test_tensors_made_of_nothing_name_their_device(file):
    """Those of exercises need not: a checker runs where the CPU is torch's default."""
    assert list(made_without_a_device("import torch\ntorch.eye(3)"))
    assert not list(made_without_a_device("import torch\ntorch.eye(3).to(x)\ntorch.eye(3, device=x.device)"))
    found = made_without_a_device(file.read_text(encoding="utf-8"))
    assert not [made for made in found if made not in ELSEWHERE]


# --- the repository ---------------------------------------------------------------------------------------------------

TOP = {
    ".binder",
    ".ci",
    ".gitattributes",
    ".github",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
}
TOP |= {"LICENSE-text", "Makefile", "README.md", "_config.yml", "_toc.yml", "pyproject.toml", "requirements.txt"}
TOP |= {"benchmarks", "book", "src", "tests"}
DEVICES = r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)"


def tracked():
    """The paths that git tracks, from the top of the repository."""
    return git_lists(Path(__file__).parents[1], "-z").split("\0")[:-1]


def not_on_windows(paths):
    """Paths that a checkout on Windows refuses, or that would be one file there with another."""
    bad = [p for p in paths if any(re.search(r'[<>:"|?*\\\x00-\x1f]|[. ]$', part) for part in p.split("/"))]
    bad += [p for p in paths if any(re.match(DEVICES, part, re.IGNORECASE) for part in p.split("/"))]
    seen = {}
    return bad + [p for p in paths if seen.setdefault(p.lower(), p) != p]


def test_the_top_of_the_repository_holds_what_belongs_there():
    """A trial leaves a checkpoint behind, and ``git add .`` takes it along."""
    assert {path.split("/")[0] for path in tracked()} == TOP


def test_every_tracked_file_can_be_checked_out_on_windows():
    faults = ["cuda:9", "a/b./c", "book/Aux.md", "a/README", "x?"]
    assert sorted(not_on_windows([*faults, "a/readme", "auxiliary.py", "a/.x.y"])) == sorted(
        [*faults[:3], "x?", "a/readme"]
    )
    paths = tracked()
    assert len(paths) > 300 and not not_on_windows(paths)


# --- the tests --------------------------------------------------------------------------------------------------------

TESTS = sorted(Path(__file__).parent.glob("test_*.py"))


def slow_marks(text):
    """The reason that each mark of a slow test gives, None where it gives none."""
    tree = ast.parse(text)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "slow":
            call = calls.get(id(node))
            said = {k.arg: k.value for k in call.keywords} if call else {}
            yield said["reason"].value if isinstance(said.get("reason"), ast.Constant) else None


def test_slow_tests_say_why_they_are_slow():
    assert list(slow_marks("import pytest\n@pytest.mark.slow\ndef test(): pass")) == [None]
    marks = [(file.name, why) for file in TESTS for why in slow_marks(file.read_text(encoding="utf-8"))]
    assert len(marks) > 5 and not [name for name, why in marks if why is None or len(why.split()) < 4]


def test_the_quick_tests_are_there_and_none_of_them_is_slow():
    """What ``make quick`` runs, which takes under a minute on two cores: forty seconds of processor."""
    text = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    names = re.search(r"^QUICK := (.*)$", text, re.MULTILINE)[1].split()
    files = [Path(__file__).with_name(f"test_{name}.py") for name in names]
    assert Path(__file__) in files and all(file.is_file() for file in files)
    assert not [file.name for file in files if list(slow_marks(file.read_text(encoding="utf-8")))]


def test_no_test_imports_another():
    """What tests share is in modules that are no tests, so that one can be changed without its neighbours."""
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
            assert not any(str(name).startswith("test_") for name in names), f"{path.name}, line {node.lineno}: {names}"
