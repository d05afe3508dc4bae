"""What each window of a run has used, and the ideal time for its texts alone."""

from __future__ import annotations

import dataclasses
import math

from benchmarks.processes import Emulator

WINDOW_S = 60


@dataclasses.dataclass(frozen=True, slots=True)
class Windows:
    """The texts of a run that RPM limits, and what was possible."""

    limit: int
    texts: int
    used: tuple[int, ...]
    """The texts counted in each minute from the first one on."""
    took_s: float

    @property
    def ideal_s(self) -> int:
        """The time from the first text to the last one, by the number of texts alone."""
        return WINDOW_S * (math.ceil(self.texts / self.limit) - 1)

    @property
    def max_s(self) -> float:
        """The ideal and 2 %, or 2.4 s in a short run: a burst alone takes a second."""
        return self.ideal_s + max(2.4, 0.02 * self.ideal_s)

    def __str__(self) -> str:
        possible = [
            min(self.limit, self.texts - self.limit * number) for number in range(len(self.used))
        ]
        pairs = ", ".join(
            f"{used:,} of {max(0, most):,}" for used, most in zip(self.used, possible, strict=True)
        )
        return f"{self.took_s:.1f} s; texts per window: {pairs}"


def windows_of(server: Emulator, limit: int) -> Windows:
    """Return what an emulator with that RPM has counted."""
    stats = server.stats()
    took_s = stats["last_counted_s"] - stats["first_counted_s"]
    minutes = range(math.floor(took_s / WINDOW_S) + 1)
    used = [server.texts_between(WINDOW_S * one, WINDOW_S * (one + 1)) for one in minutes]
    return Windows(limit, stats["texts"], tuple(used), took_s)
