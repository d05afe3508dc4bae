"""The limit that the service really enforces, learned from unexplained 429 answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

KEPT_FRACTION = 0.95
"""How much of the load that passed in the last window is used after a cut."""
MIN_CUT = 0.7
"""One cut keeps at least this fraction: the window may have been empty for other reasons."""
FEW_CALLS = 3
"""A 429 after at most this many answered calls repeats the last one: there is a limit."""
SOME_CALLS = 20
"""The same holds after this many calls if the load equals that of the last 429, twice in a row."""
SAME_LOAD = 0.1
"""Two loads that differ by at most this fraction count as equal."""
FADE = 0.85
"""How much of an earlier limit counts where a lower load is rate-limited as well."""
HOLD_S = 90.0
MAX_HOLD_S = 1800.0
RECOVERY_PER_MIN = 0.1
"""Fraction of the configured limit that returns in about the first 30 s; then it is faster."""
LONG_PAUSE_S = 5.0
"""After so long a pause, another 429 at the same load shows a limit there."""
STATE_NUMBERS = 10
"""How many numbers `dump` returns."""


class LearnedLimit:
    """An effective limit below the configured one; infinite until something was learned.

    One 429 proves nothing, because services reject calls at random as well: all calls pause, and
    nothing else changes. A repeated 429 shows a limit (`learn_from_429`). Then 95 % of the load
    that passed below it is used. This is additive increase with a decrease that is measured, not
    guessed. The learned limit is held for a while and then returns to the configured one, faster
    and faster. Where it meets the same limit on the way, it is held twice as long from then on.
    Calls that were in flight at a cut and pass after all raise it (`passed_after_cut`).
    """

    __slots__ = (
        "detected", "floor", "hold_s", "last_load", "passed", "previous", "recovers_at", "repeats",
        "value", "waited_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.value = math.inf
        self.previous = math.inf
        self.floor = 0.0
        self.passed = 0.0
        self.recovers_at = 0.0
        self.hold_s = 0.0
        self.detected = 0.0
        self.last_load = 0.0
        self.repeats = 0.0
        self.waited_s = 0.0

    def limit(self, now: float, configured: int) -> int:
        """Return the limit at `now`: at least 1, at most `configured`."""
        if self.value == math.inf:
            return configured
        self.recovers_at = min(self.recovers_at, now + MAX_HOLD_S)
        minutes = max(0.0, now - self.recovers_at) / 60
        recovered = self.value + RECOVERY_PER_MIN * configured * minutes * (1 + minutes)
        if recovered >= configured:
            self.value = math.inf
            return configured
        return max(1, int(recovered))

    def learn_from_429(self, now: float, limit: int, load: int, calls: int, wait_s: float) -> bool:
        """Record a 429; return True if it shows a limit, which was then lowered.

        Args:
            now: epoch seconds.
            limit: the limit in force.
            load: what passed in the last window.
            calls: how many calls were answered since the last 429.
            wait_s: for how long all calls pause.
        """
        before, self.last_load = self.last_load, float(load)
        met_again = limit > self.value and _is_same(load, self.detected)
        repeated = calls < FEW_CALLS and before > 0
        same_load = _is_same(load, before)
        self.repeats = self.repeats + 1.0 if calls < SOME_CALLS and same_load else 0
        after_long_pause = self.waited_s >= LONG_PAUSE_S and same_load
        self.waited_s = wait_s
        if not (met_again or repeated or after_long_pause or self.repeats >= 2):
            self._pause_recovery(now, limit, wait_s)
            return False
        if repeated:  # The pause has emptied the window: what it held before counts.
            self.last_load = max(load, FADE * before if self.value < before else before)
        self.detected = self.passed = self.last_load
        self.hold_s = min(MAX_HOLD_S, 2 * self.hold_s) if met_again else HOLD_S
        self.repeats = 0.0
        self.previous, self.floor = limit, limit * MIN_CUT
        self.recovers_at = now + self.hold_s
        self._update()
        return True

    def passed_after_cut(self, amount: int) -> None:
        """Record a call that was in flight at the cut and was answered after all."""
        if self.value != math.inf and self.passed:
            self.passed += amount
            self._update()

    def _pause_recovery(self, now: float, limit: int, wait_s: float) -> None:
        """Keep the limit as recovered so far until the pause is over; this 429 proves nothing."""
        if self.value == math.inf:
            return
        self.value, self.passed = float(limit), 0.0
        self.recovers_at = max(self.recovers_at, now) + wait_s

    def _update(self) -> None:
        self.value = min(self.previous, max(KEPT_FRACTION * self.passed, self.floor))

    def dump(self) -> tuple[float, ...]:
        """Return the state as numbers."""
        cut = (self.value, self.previous, self.floor, self.passed, self.recovers_at, self.hold_s)
        return (*cut, self.detected, self.last_load, self.repeats, self.waited_s)

    def load(self, numbers: Sequence[float]) -> None:
        """Restore the state from the numbers of `dump`."""
        self.value, self.previous, self.floor, self.passed = numbers[:4]
        self.recovers_at, self.hold_s, self.detected, self.last_load = numbers[4:8]
        self.repeats, self.waited_s = numbers[8:STATE_NUMBERS]


def _is_same(load: float, other: float) -> bool:
    return abs(load - other) <= SAME_LOAD * other
