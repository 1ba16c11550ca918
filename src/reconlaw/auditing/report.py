"""The report of an audit: one HTML file that needs nothing else, in light, dark and print."""

from __future__ import annotations

import base64
import html
import io
import math
import platform
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from .._files import write_whole
from .._version import __version__
from .._words import many
from ..attack.result import Result
from .checks import as_percent, as_power
from .evidence import INPUTS
from .judgement import SHOWN
from .nulls import FDR
from .outcome import Audit, loose, shared_reasons
from .pool import Identified

_TITLES = {
    "recovered": ("alarm", "Training data came back"),
    "close": ("alarm", "Training data may be exposed: candidates, not confirmed"),
    "inconclusive": ("doubt", "Inconclusive"),
    "not determined": ("neutral", "Not determined by counting"),
    "unchanged": ("calm", "Nothing changed"),
}
_KINDS = {"open": "helps the attack", "shut": "hinders the attack", "note": ""}

# From this error on a candidate that is not confirmed is called wrong, probably.
_WRONG = 0.5
# Candidates of a pool that are shown at least.
_NEAREST = 10

_STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --card: #f5f5f2; --ink: #1d1f21; --soft: #5a5f66; --line: #d5d7da;
  --alarm: #b3261e; --doubt: #8a5a00; --calm: #1a6b3c; --neutral: #4a5560; --dot: #0062a3; --mark: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ground: #17191c; --card: #212429; --ink: #e8e9ea; --soft: #a9afb7;
  --line: #3c4148; --alarm: #ff8a80; --doubt: #f2bd5b; --calm: #7fd6a0; --neutral: #b4bdc7;
  --dot: #74b9f0; --mark: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.55;
  font: 1rem/1.55 system-ui, "Segoe UI", "Helvetica Neue", "Liberation Sans", Arial, sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 1.5rem 1.1rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.15rem; font-weight: 600; color: var(--soft); margin: 0 0 1rem; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 2.6rem 0 .7rem; }
.verdict { border-left: .4rem solid var(--tone); background: var(--card); padding: 1rem 1.2rem; border-radius: .3rem; }
.verdict h2 { margin: 0 0 .4rem; color: var(--tone); font-size: 1.6rem; }
.verdict p { margin: 0; }
.alarm { --tone: var(--alarm); } .doubt { --tone: var(--doubt); } .calm { --tone: var(--calm); }
.neutral { --tone: var(--neutral); }
p, li { max-width: 42rem; }
dl { margin: 0; } dt { font-weight: 600; } dd { margin: 0 0 .8rem; }
dt small { font-weight: 400; color: var(--soft); margin-left: .4rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.names td, .names tbody th { overflow-wrap: anywhere; min-width: 5rem; }
.wide { overflow-x: auto; } th { font-weight: 600; } thead th { color: var(--soft); }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: 1rem; margin: 1rem 0; }
.strips { display: grid; gap: 1rem; margin: 1rem 0; }
figure { margin: 0; break-inside: avoid; }
figure img { display: block; width: 100%; image-rendering: pixelated; border: 1px solid var(--line); }
.strips img { height: 2rem; }
figcaption { font-size: .87rem; color: var(--soft); margin-top: .3rem; }
.scale { margin: 1.2rem 0 .4rem; } .scale p { margin: .7rem 0 .15rem; font-size: .93rem; }
.track { position: relative; height: 1.5rem; border-bottom: 1px solid var(--line); margin: 0 .5rem;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.track i { position: absolute; top: .3rem; width: .8rem; height: .8rem; margin-left: -.4rem; border-radius: 50%;
  background: var(--dot); opacity: .55; }
.track i.this { background: var(--mark); opacity: 1; border-radius: 0; transform: rotate(45deg); }
.track i.tol { width: 2px; margin-left: -1px; border-radius: 0; top: 0; height: 1.5rem; background: var(--soft); }
.ticks { position: relative; height: 1.5rem; margin: 0 .5rem; font-size: .82rem; color: var(--soft); }
.ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.ticks span:first-child { transform: none; margin-left: -.5rem; }
.ticks span:last-child { transform: translateX(-100%); margin-left: .5rem; }
details { border: 1px solid var(--line); border-radius: .3rem; padding: .6rem .9rem; margin: 1rem 0; }
summary { cursor: pointer; font-weight: 600; } pre { overflow-x: auto; font-size: .82rem; white-space: pre-wrap; }
footer { margin-top: 3rem; color: var(--soft); font-size: .87rem; }
@media print { main { max-width: none; padding: 0; } h2 { break-after: avoid; } }
"""


def png(pixels: np.ndarray) -> str:
    """A data URI of (H, W) or (H, W, 3) numbers in [0, 1]."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8)).save(file, "png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def drawn(x: torch.Tensor, shape) -> np.ndarray:
    """An input stretched to the full range from black to white: its own brightness and contrast are not known."""
    low, high = x.min(), x.max()
    pixels = ((x - low) / (high - low).clamp_min(1e-300)).reshape(shape or (1, -1)).cpu().double().numpy()
    return pixels.transpose(1, 2, 0) if shape and len(shape) == 3 and shape[0] == 3 else pixels


def _shown(made: Audit) -> bool:
    """Whether candidates are shown: they explain the head's change well, or clearly better than chance does."""
    if made.candidates is None or not made.findings or made.result is None:
        return False
    if made.verdict == "inconclusive":
        return bool(made.references) and made.result.loss <= SHOWN * min(made.references)
    return made.verdict in ("close", "recovered")


def _figures(made: Audit, candidates: torch.Tensor, confirmed: bool) -> str:
    cells, what = [], "input" if confirmed else "candidate"
    kind, shared = "picture" if made.picture else "strip of grey values", shared_reasons(made.findings)
    for i, (x, finding) in enumerate(zip(candidates, made.findings, strict=True)):
        if finding.recovered is not confirmed:
            continue
        faces = [(x, "")] if made.parity == "mixed" else [(x, ""), (-x, "its negative, which fits as well")]
        for face, note in faces:
            error = finding.standard_error
            caption = f"{what} {i + 1}" + ("" if confirmed else ", not confirmed")
            if math.isfinite(error):
                wrong = not confirmed and error >= _WRONG
                caption += f", {'probably wrong: ' if wrong else ''}off by about {as_power(error)} of its length"
                caption += "" if confirmed or wrong else " if it is right"
            caption += f"; {note}" if note else ""
            alt = f"{kind}: {caption}"
            numbers = ""
            if made.picture is None:
                values = ", ".join(f"{v:.4g}" for v in face[:64].tolist()) + (", …" if len(face) > 64 else "")
                numbers = f"<details><summary>Numbers</summary><pre>{values}</pre></details>"
            image = f'<img src="{png(drawn(face, made.picture))}" alt="{html.escape(alt)}">'
            own = [reason for reason in finding.against if reason not in shared]
            if math.isfinite(error):  # the caption says it already
                own = [reason for reason in own if reason != loose(error)]
            doubt = f"<br>{html.escape('; '.join(own))}" if own else ""
            cells.append(f"<figure>{image}<figcaption>{html.escape(caption)}{doubt}</figcaption>{numbers}</figure>")
    return f'<div class="{"pictures" if made.picture else "strips"}">{"".join(cells)}</div>'


def _scale(made: Audit, result: Result) -> str:
    """Losses on one logarithmic axis: guesses, references, this head."""
    loss = max(result.loss, 1e-32)
    least = min([loss, made.tolerance, *made.references, *made.guesses])
    lowest = math.floor(math.log10(least)) - 1
    step = max(1, math.ceil(-lowest / 4))
    lowest = -step * math.ceil(-lowest / step)

    def place(value):
        return f"{100 * (1 - math.log10(min(1.0, max(value, 1e-32))) / lowest):.2f}%"

    def track(values, kind=""):
        dots = "".join(f'<i class="{kind}" style="left:{place(v)}"></i>' for v in values)
        return f'<div class="track"><i class="tol" style="left:{place(made.tolerance)}"></i>{dots}</div>'

    rows = [("Guesses: random candidates, nothing fitted", made.guesses, "")]
    if made.references:
        rows.append(("References: the same attack where there is nothing to find", made.references, ""))
    rows.append(("This head", (loss,), "this"))
    body = "".join(f"<p>{label}</p>{track(values, kind)}" for label, values, kind in rows)
    ticks = "".join(
        f'<span style="left:{100 * (1 - e / lowest):.2f}%">{as_power(10.0**e) if e else "1"}</span>'
        for e in range(lowest, 1, step)
    ).replace("1\u00a0×\u00a010", "10")
    words = f"loss of this head {as_power(result.loss)}; guesses {_span(made.guesses)}; references " + (
        _span(made.references) if made.references else "not run"
    )
    return (
        f'<div class="scale" role="img" aria-label="Losses on a logarithmic axis: {words}.">{body}'
        f'<div class="ticks">{ticks}</div></div>'
        "<p><small>Loss: the share of the head's change that the candidates leave unexplained, on a logarithmic "
        f"axis. The upright line marks {as_power(made.tolerance)}, where nothing but "
        f"rounding{' and the movement of the body' if made.moved else ''} is left.</small></p>"
    )


def _span(values):
    low, high = as_power(min(values)), as_power(max(values))
    return low if low == high else f"{low} to {high}"


def _by_silence(made: Audit, result: Result) -> str:
    """How sure what was read off a first layer is."""
    return (
        "<p>A ReLU lets nothing of an input through to a neuron that is off for it, so training never moves that "
        "neuron along it. The weights of all the neurons that an input was silent to therefore changed within one "
        "hyperplane, and where all hyperplanes but one meet, there is an input. None of this looks at the training "
        f"data. The search took {result.steps:,.0f} steps.</p>"
        "<p><strong>Each by itself.</strong> The neurons of its hyperplane are turned away from an input, before and "
        "after training; p-value: the chance that so many would be, were it another point. Standard error, and the "
        "distance to the nearest candidate of a second search from other starts: relative to its length. The same "
        "search also ran on the change with its columns in another order. That keeps every hyperplane and no input, "
        "and nothing may be called recovered there.</p>"
        + _candidates(made, {"p_value": "p-value", "standard_error": "Standard error", "distance": "Second search"})
    )


def _candidates(made: Audit, columns: dict[str, str]) -> str:
    """A table with a row for each candidate: attributes of its finding, and the words above them."""
    rows = "".join(
        f"<tr><th scope='row'>{i}</th>"
        + "".join(f"<td>{_shown_number(getattr(one, name))}</td>" for name in columns)
        + f"<td>{'yes' if one.recovered else 'no'}</td></tr>"
        for i, one in enumerate(made.findings, 1)
    )
    heads = "".join(f"<th>{words}</th>" for words in ("No.", *columns.values(), "Confirmed"))
    return (
        "<div class='wide' tabindex='0' role='region' aria-label='Each candidate'><table>"
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _how_sure(made: Audit, result: Result) -> str:
    if made.first_layer is not None:
        return _by_silence(made, result)
    parts, n = [_scale(made, result)], made.n or 0
    rows = [
        (
            "Guesses",
            f"{len(made.guesses)} sets of {many(n, 'random input')}",
            _span(made.guesses) if made.guesses else "–",
        ),
        (
            "References",
            f"{many(len(made.references), 'attack')} of up to {made.reference_steps or 0:,} steps",
            _span(made.references) if made.references else "not run",
        ),
        ("This head", f"one attack of {result.steps:,.0f} steps, {result.seconds:.0f} s", as_power(result.loss)),
    ]
    cells = "".join(f"<tr><th scope='row'>{a}</th><td>{b}</td><td>{c}</td></tr>" for a, b, c in rows)
    parts.append(f"<table><thead><tr><th>What</th><th>How</th><th>Loss</th></tr></thead><tbody>{cells}</tbody></table>")
    parts.append(
        "<p>None of this looks at the training data. A reference replaces the head's change by one of the same size "
        f"and rounding that {INPUTS * n} random inputs made, or by itself with its columns in another order; no "
        f"{'input explains' if n == 1 else f'{n} inputs explain'} either, and the attack then runs on it as on this "
        "head. A loss like those means that nothing "
        "was found. Random inputs are less alike than real ones are: so the audit asks for a loss a "
        f"{'hundred' if made.training else 'thousand'} times below the lowest of them, and down to rounding"
        f"{', that of training' if made.training else ''}.</p>"
    )
    told = made.verdict in ("recovered", "close")
    if told:
        parts.append(_each(made))
    if told and made.bias_mismatch is not None:
        parts.append(
            "<p><strong>A check that the attack has not seen.</strong> Under plain gradient descent the head's bias "
            "moves by the sum of the weights with which the samples entered the head. Those of the candidates add "
            f"up to the bias change to within {as_power(made.bias_mismatch)} of it.</p>"
        )
    if told and made.moved and made.simulated:
        parts.append(
            "<p><strong>How firmly each is held.</strong> The body moved, so that an error to first order would say "
            "too little. The standard errors above are those that nine in ten candidates of like own loss keep on "
            f"heads which the audit simulated: {len(made.simulated)} candidates, "
            f"{_span([error for _, error in made.simulated])} off.</p>"
        )
    elif told and made.standard_errors is not None:
        few = ""
        if made.training is not None:
            few = f", or the rounding of {made.training.name} moves them by that in a head trained on the candidates"
        parts.append(
            "<p><strong>How firmly each is held.</strong> To first order, what is left unexplained lets the candidates "
            f"move by {_span(made.standard_errors.tolist())} of their length"
            f"{few}. This speaks of the neighbourhood of the candidates; the second attack, from other "
            "starts, asks whether a different set would explain the head too.</p>"
        )
    elif told and made.dropped is not None and made.dropped.fits:
        parts.append(
            "<p><strong>How firmly each is held.</strong> Dropout in training mode carried the candidates away from "
            "the samples. The standard errors above are how far the same descent ends from the candidates on "
            f"{len(made.dropped.simulated)} heads which the audit made of them with dropout.</p>"
        )
    elif told:
        parts.append(
            "<p><strong>How firmly each is held</strong> was not computed: the head's change is not explained, or the "
            "time or memory did not suffice, or the features are dependent.</p>"
        )
    if told and made.second_loss is not None:
        parts.append(
            "<p><strong>Once more.</strong> The same attack from other starts ended at a loss of "
            f"{as_power(made.second_loss)}. A candidate counts only where it ended there again.</p>"
        )
    if made.control is not None:
        power = (
            "So the attack can work on this body; if it failed on your head, n, the norm of the inputs, or the way "
            "the head was trained may differ from what the audit assumes."
            if made.control > 0.5
            else "So the attack is too weak for this body within the time given, and its failure says nothing "
            "about your data."
        )
        parts.append(
            "<p><strong>Could the attack have worked?</strong> On a head that the audit trained itself, on "
            f"{many(n, 'random input')}, it found {as_percent(made.control)} of them. {power}</p>"
        )
    return "".join(parts)


def _shown_number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else as_power(value)


def _each(made: Audit) -> str:
    """What was found out of each candidate, a row each."""
    columns = {"loss": "Own loss", "p_value": "p-value", "standard_error": "Standard error"}
    return (
        "<p><strong>Each by itself.</strong> Own loss: the share that is left of what this candidate alone has to "
        f"explain. Its p-value: the share of {len(made.null_losses)} candidates that the references found, all of them "
        "wrong, that leave no more; with so few it cannot be smaller than "
        f"{as_power(1 / (1 + len(made.null_losses)))}. The rule over the candidates aims at a false discovery "
        f"rate of {FDR:g}, and is one of several things that are asked. Standard error, and the distance to the "
        "nearest candidate of the second attack: relative to its length.</p>"
        + _candidates(made, columns | {"distance": "Second attack"})
    )


def _pool(pool: Identified) -> str:
    """The candidates that come nearest to the span, the nearest first."""
    rows = []
    for i in pool.residuals.argsort()[: max(_NEAREST, int(pool.named.sum()) + 3)].tolist():
        told = "trained on" if pool.named[i] else "like a sample" if pool.alike[i] else "–"
        rows.append(
            f"<tr><th scope='row'>{html.escape(pool.names[i])}</th><td>{as_power(float(pool.residuals[i]))}</td>"
            f"<td>{as_power(float(pool.p_values[i]))}</td><td>{told}</td></tr>"
        )
    return (
        f"<p>The share of each candidate's {pool.whose} that lies outside the "
        f"{html.escape(pool.span.rstrip(','))}. p-values are the "
        "share of candidates that leave no more outside of spans of the same rank made from others of the pool.</p>"
        "<table class='names'><thead><tr><th>Candidate</th><th>Outside the span</th><th>p-value</th><th></th></tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _limits(made: Audit) -> str:
    shown = _shown(made)
    layer, first = "layer" in made.settings, made.first_layer is not None
    trained = "layers below the one audited were not trained" if layer else "the head alone was trained"
    assumed = (
        f"The audit assumes that {trained}, by gradient descent (momentum and mini-batches do no harm), without weight "
        "decay but what the checks above name, without dropout before it or an optimiser that rescales each weight "
        "(Adam). Where that does not hold, its change is not made of the samples' features, and the attack fails "
        "without that being a protection."
    )
    if first:
        assumed = (
            "The audit assumes that the first layer was trained by gradient descent (momentum, mini-batches and what "
            "else was trained do no harm), with fewer inputs than an input has numbers, and a ReLU behind it."
        )
    stretched = "Each picture is stretched from black to white." if shown and made.picture else ""
    where = "" if first else f"Inputs are looked for in {html.escape(str(made.settings['inputs']))}."
    limits = [
        *([f"{where} {stretched}".strip()] if where or stretched else []),
        *(["The order of the inputs means nothing, and labels are not shown."] if shown else []),
        assumed,
        "Each augmented copy of a picture counts as an input of its own, so n is larger than the number of pictures.",
        f"Only {'the first layer' if first else 'that layer' if layer else 'the head'} is attacked. What else was "
        "trained may give more away, by other attacks.",
        "The attack knows the checkpoint before fine-tuning, and n. Someone without them has a harder task.",
        "No outcome is a proof of safety. That an attack found nothing says little, and the count of equations speaks "
        "of inputs of which nothing more is known: a range, a family or a pool of candidates lowers it.",
        "Whoever holds a picture already may test whether it was trained on. That takes far fewer parameters than "
        "to find it; candidates= asks it.",
    ]
    return "<ul>" + "".join(f"<li>{text}</li>" for text in limits) + "</ul>"


def render(made: Audit) -> str:
    """The report as HTML."""
    tone, title = _TITLES[made.verdict]
    if made.verdict == "recovered" and made.candidates is None:  # a pool's are named, nothing was read out
        title = "Training data were named"
    parts = [f'<section class="verdict {tone}"><h2>{title}</h2><p>{html.escape(made.summary)}</p></section>']
    if made.pool is not None:
        parts.append(f"<section><h2>Candidates that were given</h2>{_pool(made.pool)}</section>")
    if made.X is not None and made.candidates is not None:
        what = "pictures" if made.picture else "inputs"
        parts.append(
            f"<section><h2>What came back</h2><p>These {what} were computed from the two checkpoints alone.</p>"
            f"{_figures(made, made.candidates, True)}</section>"
        )
    if made.candidates is not None and _shown(made) and not all(finding.recovered for finding in made.findings):
        shared = shared_reasons(made.findings)
        told = bool(shared) and all(reason in made.summary for reason in shared)
        doubts = "".join(f"<li>{html.escape(reason)}</li>" for reason in shared if not told)
        above = " What speaks against all of them is said above." if told else ""
        parts.append(
            "<section><h2>Candidates</h2><p>They are not confirmed: some may be close to training data, others "
            f"mixtures or noise, and the audit cannot tell which.{above}</p>{f'<ul>{doubts}</ul>' if doubts else ''}"
            f"{_figures(made, made.candidates, False)}</section>"
        )
    if made.result is not None:
        parts.append(f"<section><h2>How sure is this?</h2>{_how_sure(made, made.result)}</section>")
    checks = "".join(
        f"<dt>{html.escape(c.question)}<small>{_KINDS[c.kind]}</small></dt><dd>{html.escape(c.answer)}</dd>"
        for c in made.checks
    )
    parts.append(f"<section><h2>What was checked</h2><dl>{checks}</dl></section>")
    parts.append(f"<section><h2>What this audit does not say</h2>{_limits(made)}</section>")
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>"
        for k, v in made.settings.items()
    )
    parts.append(f"<section><h2>What was audited</h2><table class='names'><tbody>{rows}</tbody></table></section>")
    made_on = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    footer = f"reconlaw {__version__}, torch {torch.__version__}, Python {platform.python_version()}; {made_on}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)} · audit of a fine-tuned head</title><style>{_STYLE}</style></head>\n<body><main>"
        f"<h1>Audit of a fine-tuned head</h1>\n{chr(10).join(parts)}\n<footer>{footer}</footer></main></body></html>\n"
    )


def is_report(head: bytes) -> bool:
    """Whether a file that begins so is a report of an audit, which a new one may replace."""
    return head.startswith(b"<!DOCTYPE html>") and b"audit of a fine-tuned head</title>" in head


def write(made: Audit, path: Path) -> Path:
    """Write the report: a reader meets the whole file or none (:mod:`reconlaw._files`)."""
    write_whole(path, render(made).encode())
    return path
