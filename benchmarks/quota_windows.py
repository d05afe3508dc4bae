"""What each window of a run has used, and the ideal time for its texts alone."""

from __future__ import annotations

import dataclasses
import math

from benchmarks.processes import Emulator

WINDOW_S = 60
EXCESS = 0.02
"""How much longer than the ideal time a run may take."""


@dataclasses.dataclass(frozen=True, slots=True)
class Windows:
    """The texts or tokens of a run that one limit per minute bounds, and what was possible."""

    what: str
    """`texts` or `tokens`."""
    limit: int
    total: int
    used: tuple[int, ...]
    """What was counted in each minute from the first text on."""
    took_s: float

    @property
    def ideal_s(self) -> int:
        """The time from the first text to the last one, by their number or tokens alone."""
        return WINDOW_S * (math.ceil(self.total / self.limit) - 1)

    @property
    def max_s(self) -> float:
        """The longest time that a run may take."""
        return (1 + EXCESS) * self.ideal_s

    @property
    def is_reached(self) -> bool:
        """Whether the run took no longer than it may."""
        return self.took_s <= self.max_s

    @property
    def target(self) -> str:
        """What the run has to reach, in words."""
        return f"{self.total:,} {self.what} in {self.max_s:.1f} s (ideal {self.ideal_s} s)"

    def __str__(self) -> str:
        possible = [
            min(self.limit, self.total - self.limit * number) for number in range(len(self.used))
        ]
        pairs = ", ".join(
            f"{used:,} of {max(0, most):,}" for used, most in zip(self.used, possible, strict=True)
        )
        return f"{self.took_s:.1f} s; {self.what} per window: {pairs}"


def windows_of(server: Emulator, limit: int, what: str = "texts") -> Windows:
    """Return what an emulator with that limit of texts, or tokens, per minute has counted."""
    stats = server.stats()
    took_s = stats["last_counted_s"] - stats["first_counted_s"]
    minutes = range(math.floor(took_s / WINDOW_S) + 1)
    if what == "texts":
        used = [server.texts_between(WINDOW_S * one, WINDOW_S * (one + 1)) for one in minutes]
    else:
        sums = [int(server.at(WINDOW_S * one, what)) for one in minutes] + [stats[what]]
        used = [after - before for before, after in zip([0, *sums[1:-1]], sums[1:], strict=True)]
    return Windows(what, limit, stats[what], tuple(used), took_s)
