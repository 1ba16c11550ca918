"""The command line: ``python -m reconlaw audit before.pt after.pt …``."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path

from .auditing.errors import AuditError
from .auditing.given import inputs_from
from .auditing.head import import_module
from .auditing.outcome import EXIT
from .auditing.several import audits, status

_AUDIT = """\
Try to read the samples that a classifier's head was fine-tuned on back out of two checkpoints, the one before and the
one after, and write an HTML report of what came back and how sure that is. The training data are not needed.

The head must be a torch.nn.Linear; the part of the model below it, its body, should not have changed. Where more was
trained, --layer names the first layer that was, linear or convolutional. A pair of LoRA adapters, as PEFT stores them,
is audited at the first layer that they adapt; the first checkpoint is then the adapter at its start. Checkpoints are
state dictionaries, saved by torch.save(model.state_dict(), …) or as .safetensors, alone or among what else a trainer
stores.
Of a file only tensors are read, because anything else could run code; the model given by --model is imported and
called, so name your own.
"""
_STATUS = """\
exit status:
  0  no tensor differs between the checkpoints
  1  data came back
  2  an argument or a file does not serve, or the audit failed; the message says why
  3  data may be there: close, with candidates that something speaks against, or inconclusive, which proves nothing
  4  not determined by counting, for inputs of which nothing more is known; this says nothing of safety
of several pairs: the most serious, in the order 1, 2, 3, 4, 0

example:
  python -m reconlaw audit before.pt after.pt --model mypackage.model:build --head fc --input-shape 3,32,32 --n 20
"""


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(side) for side in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; write whole numbers with commas, such as 3,32,32")
    return shape


def _verdicts(text: str) -> tuple[str, ...]:
    chosen = tuple(word.strip().replace("-", " ") for word in text.split(","))
    if unknown := [word for word in chosen if word not in EXIT]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no verdict; there are: {', '.join(EXIT)}")
    return chosen


def _positive(kind):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} must be a {what} above 0")
        return value

    return parse


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    whole = argparse.ArgumentParser(prog="python -m reconlaw", description="Reading training data out of parameters.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    made = commands.add_parser(
        "audit",
        help="does a fine-tuned head give its training data away?",
        description=_AUDIT,
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --conf would be taken for --config, and its file not be read
    )
    made.add_argument("before", help="checkpoint before fine-tuning")
    made.add_argument("after", help="checkpoint after fine-tuning")
    made.add_argument(
        "more",
        nargs="*",
        default=[],  # without it an error names this one as missing, too
        help="further pairs, before and after in turn; reports are numbered, budgets are of each",
    )
    made.add_argument(
        "--model",
        required=True,
        metavar="PACKAGE.MODULE:FACTORY",
        help="a function without arguments that makes the torch.nn.Module, or the module itself; it is imported",
    )
    made.add_argument("--head", help="name of the fine-tuned linear layer (default: the one that changed)")
    made.add_argument(
        "--layer",
        help="audit this layer in the place of a head: linear or convolutional, best the first that was trained, whose "
        "inputs never moved; of a pair of LoRA adapters an adapted one (default there: the first)",
    )
    made.add_argument(
        "--weight-decay",
        action="store_true",
        help="the layer was trained with weight decay that the change does not show by itself (after a softmax, and "
        "with more outputs than samples, it does)",
    )
    made.add_argument(
        "--state",
        metavar="KEY",
        help="where in the files the weights are, such as state_dict_ema (default: looked for)",
    )
    made.add_argument(
        "--input-shape", required=True, type=_shape, metavar="C,H,W", help="shape of one input, without the batch"
    )
    made.add_argument(
        "--n",
        type=_positive(int),
        help="how many samples the head was fine-tuned on; estimated if left out, where possible",
    )
    made.add_argument(
        "--norm",
        type=_positive(float),
        help="Euclidean norm of an input as the model sees it, where all have one and it is known (default: none is "
        "assumed); it matters if the model has biases",
    )
    made.add_argument(
        "--inputs",
        metavar="WHERE",
        help="where inputs lie as the model sees them: free, sphere, sphere:RADIUS, box:LOW,HIGH or pixels:MEAN,STD, "
        "channels joined by / (default: nothing is assumed)",
    )
    made.add_argument(
        "--candidates",
        metavar="POOL",
        help="which of these were trained on? A folder of pictures, or a .npz, .npy or .csv file",
    )
    made.add_argument(
        "--image-shape", type=_shape, metavar="H,W", help="how to draw an input, if its shape does not tell"
    )
    made.add_argument(
        "--max-seconds", type=_positive(float), default=120.0, metavar="S", help="time budget in all (default: 120)"
    )
    made.add_argument(
        "--max-steps",
        type=_positive(int),
        metavar="N",
        help="budget of work in all, which is the same on every machine (default: none)",
    )
    made.add_argument(
        "--references",
        type=_positive(int),
        default=3,
        metavar="R",
        help="attacks with nothing to find, to compare with (default: 3)",
    )
    made.add_argument("--seed", type=int, default=0, help="of everything that is drawn at random (default: 0)")
    made.add_argument("--device", default="auto", help="cpu, cuda, … (default: what there is)")
    made.add_argument(
        "--report", default="audit.html", type=Path, help="where to write the report (default: audit.html)"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the audit for machines there, too")
    made.add_argument("--sarif", type=Path, metavar="FILE", help="write a SARIF log there, for code scanning")
    made.add_argument(
        "--config",
        metavar="FILE",
        help="a .json or .yaml file with any of these arguments by their long names; the command line goes before it",
    )
    made.add_argument(
        "--fail-on",
        type=_verdicts,
        metavar="VERDICTS",
        help="verdicts, joined by commas, that count in the exit status, such as recovered,close; the others then give "
        "0, and what does not serve 2 as ever (default: all)",
    )
    made.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return whole


def _config(path: Path) -> dict:
    """What a file of arguments says.

    Raises:
        AuditError: it cannot be read, is no mapping, or is YAML and PyYAML is not installed.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() in (".yaml", ".yml"):
            import yaml

            said = yaml.safe_load(text)
        else:
            said = json.loads(text)
    except ImportError as error:
        raise AuditError(f"--config {path} needs PyYAML: pip install pyyaml, or write it as .json") from error
    except Exception as error:
        raise AuditError(f"--config {path} cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(said, dict):
        raise AuditError(f"--config {path} holds a {type(said).__name__}; write arguments by name, such as n: 20")
    return said


def with_config(arguments: list[str]) -> list[str]:
    """The arguments with those of a ``--config`` file put before them, so that later ones win.

    Paths in the file stand as they are, so a relative one is relative to where the command runs.

    Raises:
        AuditError: the file does not serve, or names an argument that there is none of.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    found, rest = finder.parse_known_args(arguments)
    if found.config is None or not rest or rest[0] != "audit":
        return arguments
    said = {str(key).replace("_", "-"): value for key, value in _config(found.config).items()}
    known = {a.option_strings[-1][2:]: a for a in _audit_actions() if a.option_strings and a.dest != "help"}
    files, options = [], []
    for key, value in said.items():
        if key in ("before", "after", "pairs"):
            continue
        if key not in known or key == "config":
            raise AuditError(f"--config {found.config}: there is no argument {key!r}; there are: {', '.join(known)}")
        if known[key].nargs == 0:
            if value not in (True, False, None):  # "false" in quotes would count as true
                raise AuditError(f"--config {found.config}: {key} is {value!r}; write true or false, without quotes")
            options += [f"--{key}"] if value else []
        elif value is not None:
            options.append(f"--{key}={','.join(map(str, value)) if isinstance(value, list) else value}")
    if {"before", "after"} <= set(said):
        files = [str(said["before"]), str(said["after"])]
    for pair in said.get("pairs") or ():
        if not isinstance(pair, list) or len(pair) != 2:
            raise AuditError(f"--config {found.config}: pairs holds {pair!r}; write [before, after] for each")
        files += map(str, pair)
    return ["audit", *options, *rest[1:], *files]


def _audit_actions():
    commands = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return commands.choices["audit"]._actions


def main(arguments=None) -> int:
    """Run the command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        given = parser().parse_args(with_config(arguments))
    except AuditError as error:
        print(f"python -m reconlaw audit: {error}", file=sys.stderr)
        return 2
    options = {
        name: getattr(given, name)
        for name in (
            *("head", "input_shape", "n", "max_seconds", "norm", "image_shape", "references", "seed", "device"),
            *("max_steps", "state", "candidates", "report", "json", "sarif", "layer"),
        )
    }
    options["weight_decay"] = given.weight_decay or None
    files = [given.before, given.after, *given.more]
    try:
        if len(files) % 2:
            raise AuditError(f"{len(files)} files are given; they go by pairs, before and after")
        options["module"] = import_module(given.model)
        options["inputs"] = given.inputs and inputs_from(given.inputs, given.input_shape)
        done = audits(list(zip(files[::2], files[1::2], strict=True)), progress=not given.quiet, **options)
    except (AuditError, ValueError, TypeError, OSError) as error:
        print(f"python -m reconlaw audit: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # Python's own status for it would be 1, which here means that data came back
        traceback.print_exc()
        print(f"python -m reconlaw audit: failed ({type(error).__name__}: {error})", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("python -m reconlaw audit: interrupted before there was anything to report", file=sys.stderr)
        return 130
    for made, before, after in zip(done, files[::2], files[1::2], strict=True):
        which = f"{before}, {after}: " if len(done) > 1 else ""
        if isinstance(made, AuditError):
            print(f"python -m reconlaw audit: {which}{made}", file=sys.stderr)
        else:
            print(f"{which}{made.verdict}: {made.summary}\nreport: {made.report or 'could not be written'}")
    return status(done, given.fail_on)


if __name__ == "__main__":
    sys.exit(main())
