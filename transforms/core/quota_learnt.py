"""What the service really lets through, learnt from refusals that the mirror cannot explain."""

from __future__ import annotations

import math
from collections.abc import Sequence

KEEP = 0.95
"""Part of what passed in the last window that is asked for after a cut."""
LEAST_CUT = 0.7
"""One incident takes no more than 30 % away: the window may have been empty for other reasons."""
LEAST_CUT_AGAIN = 0.9
"""Soon after another one no more than 10 %: the pause emptied the window."""
SOON_S = 120.0
HOLD_S = 120.0
MOST_HOLD_S = 1800.0
CREEP_PER_S = 0.1 / 60
"""Part of the configured limit that comes back each second once the hold is over."""


class LearntLimit:
    """An effective limit below the configured one; inf until something was learnt.

    A cut goes to 95 % of what passed in the last 60 s (additive increase, but the decrease is
    measured rather than guessed), stands for two minutes, twice as long after each further one,
    and then creeps back by 10 % of the configured limit a minute. Calls that were in the air at the
    cut and pass after all raise it again (`passed_late`).
    """

    __slots__ = ("before", "cut_at", "hold_s", "least", "passed", "value")

    def __init__(self) -> None:
        self.value = math.inf
        self.before = math.inf
        self.least = 0.0
        self.passed = 0.0
        self.cut_at = 0.0
        self.hold_s = 0.0

    def limit(self, now: float, configured: int) -> int:
        """The limit to keep at `now`: at least 1, at most `configured`."""
        if self.value == math.inf:
            return configured
        self.cut_at = min(self.cut_at, now)
        crept = max(0.0, now - self.cut_at - self.hold_s) * CREEP_PER_S * configured
        if self.value + crept >= configured:
            self.value = math.inf
            return configured
        return max(1, int(self.value + crept))

    def cut(self, now: float, limit: int, passed: int) -> None:
        """Go down from `limit` after an incident; `passed` went through in the last window."""
        again = self.hold_s > 0 and now - self.cut_at < SOON_S
        if not again:
            self.hold_s = min(MOST_HOLD_S, max(HOLD_S, 2 * self.hold_s))
        self.before = limit
        self.least = limit * (LEAST_CUT_AGAIN if again else LEAST_CUT)
        self.passed = passed
        self.cut_at = now
        self._set()

    def passed_late(self, amount: int) -> None:
        """A call that was in the air at the cut did pass."""
        if self.value != math.inf:
            self.passed += amount
            self._set()

    def _set(self) -> None:
        self.value = min(self.before, max(KEEP * self.passed, self.least))

    def dump(self) -> tuple[float, ...]:
        """The state as numbers."""
        return (self.value, self.before, self.least, self.passed, self.cut_at, self.hold_s)

    def load(self, state: Sequence[float]) -> None:
        """Take the numbers of a `dump`."""
        self.value, self.before, self.least, self.passed, self.cut_at, self.hold_s = state
