"""What an audit may spend, and how much of it is left."""

from __future__ import annotations

import math
from collections.abc import Callable

from .._checks import check_clock, check_count, check_positive
from ..attack.run import wall_clock
from ..features.budget import Budget

# What a part may take where nothing is left: one look, so that what was found until then comes back.
_LAST = 0.05


class Spending:
    """The budget of one audit, None without limit; its seconds run from when it is made.

    All parts together end with it: a part that took more than its share leaves less to the later ones. ``clock`` gives
    its seconds, those of the wall where None.
    """

    def __init__(self, seconds: float | None, steps: int | None, clock: Callable[[], float] | None = None):
        self.seconds = None if seconds is None else check_positive("max_seconds", seconds)
        self.steps = None if steps is None else check_count("max_steps", steps)
        self.clock = check_clock(clock)
        self._end = math.inf if seconds is None else self._now() + seconds

    def _now(self):
        return (self.clock or wall_clock)()

    def _of(self, part):
        return max(_LAST, min(part * self.seconds, self._end - self._now()))

    def _seconds(self, part, but):
        return self._of(part) if but is None else max(self._of(part), self._end - self._now() - but * self.seconds)

    @property
    def spent(self) -> bool:
        """Whether its seconds are over."""
        return self._now() >= self._end

    def timer(self, part):
        """A function that says whether a part of its seconds, from now on, is over."""
        end = math.inf if self.seconds is None else self._now() + self._of(part)
        return lambda: self._now() >= end

    def deadline(self, part) -> Budget:
        """A part of its seconds, from now on."""
        if self.seconds is None:
            return Budget(lambda: math.inf)
        end = self._now() + self._of(part)
        return Budget(lambda: end - self._now())

    def share(self, part, most=None, but=None) -> dict:
        """A part of it as options of :func:`reconlaw.reconstruct`, ``most`` steps at most.

        With ``but``, seconds that earlier parts left over are added, all but that part of the whole.
        """
        steps = [count for count in (None if self.steps is None else part * self.steps, most) if count is not None]
        return {
            "max_seconds": None if self.seconds is None else self._seconds(part, but),
            "max_steps": math.ceil(min(steps)) if steps else None,
            **({} if self.clock is None else {"clock": self.clock}),
        }

    def __str__(self):
        limits = [] if self.seconds is None else [f"{self.seconds:g} s"]
        limits += [] if self.steps is None else [f"{self.steps:,} steps"]
        return ", ".join(limits) or "none"
