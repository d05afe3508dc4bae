"""Rows and texts a second over the last minute: a quota's window, so that bursts even out."""

from __future__ import annotations

import collections

SPAN_S = 60.0


class Rates:
    """Told now and then how much is done; gives the speed.  Times are seconds since the start."""

    def __init__(self) -> None:
        self._seen: collections.deque[tuple[float, int, int]] = collections.deque([(0.0, 0, 0)])

    def add(self, at_s: float, rows: int, texts: int) -> None:
        """Notes the numbers of a moment; they may also fall."""
        if not any(self._seen[-1][1:]):  # Nothing was done yet: starting up is not slow work.
            self._seen = collections.deque([self._seen[-1]])
        self._seen.append((at_s, rows, texts))
        while len(self._seen) > 2 and self._seen[1][0] <= at_s - SPAN_S:
            self._seen.popleft()

    @property
    def rows_per_s(self) -> float:
        """Of the last minute, or since the start."""
        return self._of(1)

    @property
    def texts_per_s(self) -> float:
        """The same of texts."""
        return self._of(2)

    def _of(self, place: int) -> float:
        first, last = self._seen[0], self._seen[-1]
        seconds = last[0] - first[0]
        return max(0.0, (last[place] - first[place]) / seconds) if seconds > 0 else 0.0
