"""How a reconstruction ended: the status, and the message that says it in words."""

from __future__ import annotations

from .._words import many
from .count import Count
from .examine import Examined
from .result import Flag, Status

_FOUND = (Flag.RECOVERED, Flag.UP_TO_SIGN)
_KNOWLEDGE = "a family, grey levels, a pool of candidates, their labels"
# Remarks of a run that a message repeats.
_REMARKS = 3
_WORDS = {
    Flag.ROUGH: "known roughly, to within standard errors of a tenth at most",
    Flag.NOT_APART: "not told apart from another by their standard errors",
    Flag.DUPLICATE: "part of another, which came back torn in two",
    Flag.SPARE: "spare: theta is explained as well without, so n is too large or samples coincide",
    Flag.BELOW: "below what theta shows at this tolerance",
    Flag.AMBIGUOUS: "ambiguous: at this ratio other samples may fit, too",
    Flag.UNRESOLVED: "not determined: theta stays as it is along a path of others",
}


def status_of(counted: Count, examined: Examined, converged: bool, interrupted: bool, spent: bool) -> Status:
    """The status of an attack that ended so."""
    if not counted.enough:
        return Status.NOT_DETERMINED
    if not converged or examined.errors is None and interrupted:
        return Status.INTERRUPTED if interrupted else Status.BUDGET_SPENT if spent else Status.STALLED
    found = [flag in _FOUND for flag in examined.flags]
    if all(found):
        return Status.RECOVERED
    if any(found) or Flag.ROUGH in examined.flags:
        return Status.IN_PART
    return Status.AMBIGUOUS if examined.errors is None or Flag.AMBIGUOUS in examined.flags else Status.NOT_DETERMINED


def message_of(status: Status, counted: Count, uncounted: bool, examined: Examined, tol, run) -> str:
    """The same in words."""
    after = f"loss {examined.loss:.1e} after {run.seconds:.1f} s"
    remarks = "".join(f"; {remark}" for remark in [*run.remarks[:_REMARKS], examined.remark] if remark)
    if counted.shared:
        return (
            "not determined: the activation is a polynomial of degree 2 at most, so theta tells Σ a_i x_i and "
            "Σ a_i x_i x_iᵀ alone, which other sets share, and this one is not the data; only what is known of the "
            f"inputs beforehand could tell these sets apart ({_KNOWLEDGE})"
        )
    if uncounted and status is Status.AMBIGUOUS:
        return (
            f"not known to be determined: loss {examined.loss:.1e} fits theta, but how many independent equations it "
            "holds could not be measured in the time or the memory, so that other sets may fit as well; raise "
            "max_seconds, or take a machine with more memory"
        )
    if not counted.enough:
        return (
            f"not determined: {many(counted.equations, 'equation')} for {counted.unknowns} unknowns, so other sets "
            "fit theta as well and this one is not the data; more independent equations are needed, or fewer unknowns: "
            f"where more is known of the inputs beforehand ({_KNOWLEDGE}), theta may determine them"
        )
    if run.segments and examined.errors is not None:
        lie = "lies on a segment" if len(run.segments) == 1 else "lie on segments"
        beside = f", {_shares(examined.flags)}" if any(flag in _FOUND for flag in examined.flags) else ""
        return (
            f"{len(run.segments)} of the samples found {lie} of inputs that explain theta as well (the "
            f"features are linear between two samples): their ends are in result.segments{beside}; {after}"
        )
    if status is Status.RECOVERED:
        sign = " up to sign (the activation is even or odd)" if Flag.UP_TO_SIGN in examined.flags else ""
        return f"recovered{sign}: {after}"
    if status is Status.IN_PART:
        return f"recovered in part: {_shares(examined.flags)}; {after}{remarks}"
    if status is Status.AMBIGUOUS:
        how = "another set does, too" if examined.rivals else "at this ratio other sets may, too"
        return (
            f"ambiguous: this set fits theta exactly, and {how} ({counted.equations} equations for {counted.unknowns} "
            f"unknowns, some of which no other checks); {after}{remarks}"
        )
    if status is Status.NOT_DETERMINED:
        return f"not determined, though this set fits theta: {_shares(examined.flags)}; {after}{remarks}"
    advice = f"a larger {run.spent} or another seed" if run.spent else "another seed"
    return (
        f"{status.value} at loss {examined.loss:.1e} (tolerance {tol:.0e}) after {run.seconds:.1f} s; try "
        f"{advice}; if theta carries noise or rounding of relative size s, a loss "
        f"near s² is all there is: raise tol to it{remarks}"
    )


def _shares(flags) -> str:
    """ "2 of 3 samples; 1 spare: …"."""
    found = sum(flag in _FOUND for flag in flags)
    sign = " up to sign" if Flag.UP_TO_SIGN in flags else ""
    parts = [f"{found} of {len(flags)} samples{sign}"] if found else []
    for flag, words in _WORDS.items():
        if many := flags.count(flag):
            parts.append(f"{many} {words}")
    return ", ".join(parts)
