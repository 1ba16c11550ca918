"""What every method shares while it works: budgets, history, progress line and checkpoint of a run."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from .._checks import check_clock, check_positive
from .._files import sealed, unsealed, usable_path, write_whole
from ..features.budget import Budget, Spent
from ..features.passes import Passes, counted
from ..features.threads import one_thread
from .fingerprint import same_problem

CLOCK_SPEED = "RECONLAW_CLOCK_SPEED"


def wall_clock() -> float:
    """Seconds of a clock that never goes back: every budget's, unless another is handed in.

    Where the environment variable ``RECONLAW_CLOCK_SPEED`` is set the clock runs that many times as fast: at 5 it shows
    what a machine five times slower would make of the same call. Nothing that is printed or tested may change.
    """
    speed = os.environ.get(CLOCK_SPEED) or "1"
    try:
        return time.monotonic() * check_positive(CLOCK_SPEED, float(speed))
    except ValueError as error:
        raise ValueError(f"the environment variable {CLOCK_SPEED}={speed!r} is no number above 0; unset it") from error


class Improvement(NamedTuple):
    """One entry of a history: when the best so far became so, and its loss."""

    seconds: float
    loss: float
    steps: float


class Standing(NamedTuple):
    """How far a run has come."""

    best: torch.Tensor | None
    loss: float
    history: list[Improvement]
    passes: float


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used: corrupt, of another problem, or nowhere to write it."""


# Of max_seconds, and in seconds: what rounding off may take beyond them, or after Ctrl-C.
_GRACE_SHARE, _GRACE = 0.15, 1.5


@dataclass
class Run:
    """Budgets, best atoms so far, history, progress line and checkpoint of one reconstruction.

    Raises:
        ValueError, TypeError: ``max_seconds`` is no number above 0, or ``clock`` no function.

    Attributes:
        max_seconds: of this call; None for no limit.
        max_steps: of all calls on the checkpoint together; None likewise.
        samples: n, of a step (:mod:`reconlaw.features.passes`).
        clock: gives seconds; a clock of the wall where None.
        passes: through the features, those of earlier calls on the checkpoint included.
        once: does what one process alone may do where several divide the parameters, such as writing a file
            (:meth:`~reconlaw.features.feature_map.FeatureMap.once`).
        ahead: how far earlier calls came, while this one goes their way again (:mod:`reconlaw.attack.road`).
    """

    max_seconds: float | None = None
    progress: bool = False
    checkpoint: str | os.PathLike | None = None
    fingerprint: dict = field(default_factory=dict)
    best: torch.Tensor | None = None
    best_loss: float = float("inf")
    history: list[Improvement] = field(default_factory=list)
    state: dict = field(default_factory=dict)
    seconds_before: float = 0.0
    save_every: float = 5.0
    remarks: list[str] = field(default_factory=list)
    segments: dict[int, torch.Tensor] = field(default_factory=dict)
    interrupted: bool = False
    max_steps: int | None = None
    samples: int = 1
    clock: Callable[[], float] | None = None
    passes: Passes = field(default_factory=Passes)
    ahead: Standing | None = None
    once: Callable[[Callable[[], Any]], Any] = lambda make: make()

    def __post_init__(self):
        self.max_seconds = None if self.max_seconds is None else check_positive("max_seconds", self.max_seconds)
        self._now: Callable[[], float] = check_clock(self.clock) or wall_clock
        self._start = self._saved = self._now()
        if self.checkpoint is not None:
            there = self.once(self._read)
            if there is not None:
                self._load(there)
        self._bar = None
        if self.progress:
            total, unit = (self.max_steps, "steps") if self.max_seconds is None else (round(self.max_seconds, 1), "s")
            how = "{desc} {n:.0f}" if total is None else "{desc} |{bar}| {n:.0f}/{total:.0f}"
            self._bar = tqdm(total=total, unit=unit, file=sys.stderr, bar_format=f"{how} {{unit}}")

    @property
    def seconds(self) -> float:
        return self.seconds_before + self._now() - self._start

    @property
    def steps(self) -> float:
        return self.passes.made / (2 * self.samples)

    @property
    def spent(self) -> str:
        """The budget that is spent, "max_steps" or "max_seconds", or ""."""
        if self.max_steps is not None and self.steps >= self.max_steps:
            return "max_steps"
        over = self.max_seconds is not None and self._now() - self._start >= self.max_seconds
        return "max_seconds" if over else ""

    @property
    def expired(self) -> bool:
        return self.interrupted or bool(self.spent)

    @property
    def left(self) -> float:
        """Seconds that are left, infinity where they are not limited."""
        if self.interrupted:
            return 0.0
        return float("inf") if self.max_seconds is None else self.max_seconds - (self._now() - self._start)

    def interrupt(self) -> None:
        """Spend what is left: what follows only rounds off."""
        self.interrupted = True

    def closing(self) -> Budget:
        """The budget of what rounds off, from now on: what is left of this one, and a little more."""
        if self.max_seconds is None and not self.interrupted:
            return Budget(lambda: float("inf"))
        grace = _GRACE if self.max_seconds is None else min(_GRACE, _GRACE_SHARE * self.max_seconds)
        end = self._now() + self.left + grace
        return Budget(lambda: end - self._now())

    def remark(self, text: str, error: BaseException | None = None) -> None:
        """Keep what went otherwise than meant, for the result's message; each once, and not that the time was over."""
        text = text if error is None else f"{text} ({error})"
        if text not in self.remarks and not isinstance(error, Spent):
            self.remarks.append(text)

    @contextlib.contextmanager
    def working(self):
        """A context in which passes through the features are this run's, and short products on one thread."""
        with counted(self.passes), one_thread():
            yield

    def record(self, U: torch.Tensor, loss: float, note: str = "") -> bool:
        """Keep U if it is the best so far; true once a budget is spent."""
        if loss < self.best_loss:
            self.best, self.best_loss = U.clone(), loss
            told = [] if self.ahead is None else self.ahead.history[len(self.history) :][:1]
            again = bool(told) and told[0].loss == loss  # an improvement keeps the time at which it was first made
            self.history.append(told[0] if again else Improvement(self.seconds, loss, self.steps))
        return self.tick(note)

    @property
    def standing(self) -> Standing:
        """How far the run has come, in this call or in earlier ones."""
        if self.ahead is not None and self.passes.made < self.ahead.passes:
            return self.ahead
        return Standing(self.best, self.best_loss, self.history, self.passes.made)

    def rewind(self, begin: dict | None) -> None:
        """Go back to where the way began, at nothing or at a best of earlier calls, and remember how far they came."""
        self.ahead = self.standing
        self.skip(begin or {"best": None, "loss": float("inf"), "history": 0, "passes": 0})
        if begin is None:
            self.best = None

    def skip(self, piece: dict) -> None:
        """Stand where the run stood at the end of a piece of its way."""
        self.best_loss, self.passes.made = piece["loss"], piece["passes"]
        if piece["best"] is not None:
            self.best = piece["best"]
        if self.ahead is not None:
            self.history = self.ahead.history[: piece["history"]]

    def settle(self) -> None:
        """Stand where earlier calls stood, where this one has not come as far again."""
        self.best, self.best_loss, self.history, self.passes.made = self.standing

    def tick(self, note: str = "") -> bool:
        """Show progress and save the checkpoint when due; true once a budget is spent."""
        if self._bar is not None:
            done = self.steps if self._bar.unit == "steps" else self._now() - self._start
            self._bar.n = done if self._bar.total is None else min(done, self._bar.total)
            self._bar.set_description_str(f"loss {self.best_loss:.1e} {note}", refresh=False)
            self._bar.refresh()
        if self.checkpoint is not None and self._now() - self._saved > self.save_every:
            self._save_or_warn()
        return self.expired

    def save(self) -> None:
        """Write the checkpoint, whole, with a checksum (:mod:`reconlaw._files`)."""
        best, loss, history, passes = self.standing
        if self.checkpoint is None or (best is None and not passes):
            return
        content = {
            "fingerprint": self.fingerprint,
            "best": None if best is None else best.cpu(),  # the steps of a call that found none count, too
            "best_loss": loss,
            "history": [list(entry) for entry in history],
            "seconds": self.seconds,
            "passes": passes,
            "state": self.state,
        }
        made = io.BytesIO()  # so that a full disk is an OSError, whatever torch makes of one
        torch.save(content, made)
        self.once(lambda: write_whole(self._file, sealed(made.getvalue())))
        self._saved = self._now()

    def _save_or_warn(self):
        """A disk that fills up midway must not cost the result."""
        try:
            self.save()
        except OSError as error:
            warnings.warn(f"checkpoint {self.checkpoint} was not written: {error}", RuntimeWarning, stacklevel=3)
            self._saved = self._now()

    def _read(self):
        """The bytes of the checkpoint; None where there is none yet."""
        self._file = usable_path("checkpoint", self.checkpoint, CheckpointError)
        try:
            return self._file.read_bytes() if self._file.exists() else None
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error):
        return CheckpointError(
            f"checkpoint {self.checkpoint} cannot be read ({type(error).__name__}: {str(error)[:100]}); delete it, or "
            "name another file"
        )

    def _load(self, there: bytes):
        try:
            content = dict(torch.load(io.BytesIO(unsealed(there)), weights_only=True))
            alike = same_problem(content["fingerprint"], self.fingerprint)
            best, history = content["best"], [Improvement(*entry) for entry in content["history"]]
            loss, seconds, state = content["best_loss"], content["seconds"], content["state"]
            passes = Passes(content["passes"])
        except Exception as error:
            raise self._unreadable(error) from error
        if not alike:
            raise CheckpointError(
                f"checkpoint {self.checkpoint} is of another problem (theta, features, n, method or seed differ); "
                "delete it, or name another file"
            )
        self.best, self.best_loss, self.history = best, loss, history
        self.seconds_before, self.state, self.passes = seconds, state, passes

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._save_or_warn()
