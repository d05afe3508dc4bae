"""What the service really lets through, learnt from refusals that the mirror cannot explain."""

from __future__ import annotations

import math
from collections.abc import Sequence

KEEP = 0.95
"""Part of what passed in the last window that is asked for after a cut."""
LEAST_CUT = 0.7
"""One cut leaves at least this part: the window may have been empty for other reasons."""
FEW_CALLS = 3
"""A refusal after so few answered calls is the echo of the last one: there is a wall."""
SOME_CALLS = 20
"""After so few it is, if the window holds as much as at the last refusal, twice in a row."""
SAME = 0.1
"""Two levels that differ by no more than this part are one wall."""
FADE = 0.85
"""What is left of a wall where one below it refuses as well."""
HOLD_S = 90.0
MOST_HOLD_S = 1800.0
CREEP_PER_MIN = 0.1
"""Part of the configured limit that comes back in the first half a minute or so, then faster."""
LONG_S = 5.0
"""A service that asks for such a pause and refuses at the same level again has a wall there."""
LEARNT = 10
"""Numbers of a dump."""


class LearntLimit:
    """An effective limit below the configured one; inf until something was learnt.

    One refusal proves nothing, for services refuse at random as well: everybody pauses, and that is
    all. An echo shows a wall (`strike`), and the limit goes to 95 % of what passed below it
    (additive increase, but the decrease is measured rather than guessed). It stands for a while,
    then creeps back, ever faster; where it meets the same wall on the way, it stands twice as long
    from then on. Calls that were in the air at a cut and pass after all raise it (`passed_late`).
    """

    __slots__ = (
        "before", "creeps_at", "hold_s", "last", "least", "passed", "repeats", "value", "waited_s",
        "wall",
    )  # fmt: skip

    def __init__(self) -> None:
        self.value = math.inf
        self.before = math.inf
        self.least = 0.0
        self.passed = 0.0
        self.creeps_at = 0.0
        self.hold_s = 0.0
        self.wall = 0.0
        self.last = 0.0
        self.repeats = 0.0
        self.waited_s = 0.0

    def limit(self, now: float, configured: int) -> int:
        """The limit to keep at `now`: at least 1, at most `configured`."""
        if self.value == math.inf:
            return configured
        self.creeps_at = min(self.creeps_at, now + MOST_HOLD_S)
        minutes = max(0.0, now - self.creeps_at) / 60
        crept = self.value + CREEP_PER_MIN * configured * minutes * (1 + minutes)
        if crept >= configured:
            self.value = math.inf
            return configured
        return max(1, int(crept))

    def strike(self, now: float, limit: int, level: int, calls: int, wait_s: float) -> bool:
        """A refusal under `limit`; True if it shows a wall, and the limit was cut.

        Args:
            now: epoch seconds.
            limit: what was kept.
            level: what went through in the last window.
            calls: how many calls were answered since the refusal before.
            wait_s: for how long everybody pauses.
        """
        before, self.last = self.last, float(level)
        met = limit > self.value and _same(level, self.wall)
        echo = calls < FEW_CALLS and before > 0
        self.repeats = self.repeats + 1.0 if calls < SOME_CALLS and _same(level, before) else 0
        told = self.waited_s >= LONG_S and _same(level, before)
        self.waited_s = wait_s
        if not (met or echo or told or self.repeats >= 2):
            self._stand(now, limit, wait_s)
            return False
        if echo:  # The pause has emptied the window: what it held before it counts.
            self.last = max(level, FADE * before if self.value < before else before)
        self.wall = self.passed = self.last
        self.hold_s = min(MOST_HOLD_S, 2 * self.hold_s) if met else HOLD_S
        self.repeats = 0.0
        self.before, self.least = limit, limit * LEAST_CUT
        self.creeps_at = now + self.hold_s
        self._set()
        return True

    def passed_late(self, amount: int) -> None:
        """A call that was in the air at the cut did pass."""
        if self.value != math.inf and self.passed:
            self.passed += amount
            self._set()

    def _stand(self, now: float, limit: int, wait_s: float) -> None:
        """What crept back stands, and creeps on after the pause, which tells nothing."""
        if self.value == math.inf:
            return
        self.value, self.passed = float(limit), 0.0
        self.creeps_at = max(self.creeps_at, now) + wait_s

    def _set(self) -> None:
        self.value = min(self.before, max(KEEP * self.passed, self.least))

    def dump(self) -> tuple[float, ...]:
        """The state as numbers."""
        cut = (self.value, self.before, self.least, self.passed, self.creeps_at, self.hold_s)
        return (*cut, self.wall, self.last, self.repeats, self.waited_s)

    def load(self, state: Sequence[float]) -> None:
        """Take the numbers of a `dump`."""
        self.value, self.before, self.least, self.passed, self.creeps_at, self.hold_s = state[:6]
        self.wall, self.last, self.repeats, self.waited_s = state[6:LEARNT]


def _same(level: float, wall: float) -> bool:
    return abs(level - wall) <= SAME * wall
