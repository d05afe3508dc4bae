"""What counts in the service's sliding window of 60 s, as far as this side can know."""

from __future__ import annotations

import array
import math

WINDOW_S = 60.0
BUCKET_S = 0.05
"""Entries of one such span of time are kept as one, with the latest stamp: 1,200 at most."""
_ROW = 3


class SlidingWindow:
    """Requests and tokens that the service may still count, each stamped at the latest moment.

    An entry leaves `span_s` seconds after its stamp. Stamps that lie in the future (the clock
    was set back) are brought down to now: nothing can have been counted later than that.
    """

    __slots__ = ("_rows", "requests", "span_s", "tokens")

    def __init__(self, span_s: float = WINDOW_S) -> None:
        self.span_s = span_s
        self.requests = 0
        self.tokens = 0
        self._rows = array.array("d")

    def add(self, stamp: float, requests: int, tokens: int) -> None:
        """Count a call; it joins the newest bucket if it falls into the same span of time."""
        rows = self._rows
        if rows:
            stamp = max(stamp, rows[-_ROW])
        self.requests += requests
        self.tokens += tokens
        if rows and stamp // BUCKET_S == rows[-_ROW] // BUCKET_S:
            rows[-_ROW] = stamp
            rows[-2] += requests
            rows[-1] += tokens
        else:
            rows.extend((stamp, requests, tokens))

    def expire(self, now: float) -> None:
        """Drop what left the window by `now`."""
        rows = self._rows
        if rows and rows[-_ROW] > now:
            self._clamp(now)
        gone = 0
        while gone < len(rows) and rows[gone] + self.span_s <= now:
            self.requests -= int(rows[gone + 1])
            self.tokens -= int(rows[gone + 2])
            gone += _ROW
        if gone:
            del rows[:gone]

    def _clamp(self, now: float) -> None:
        at = len(self._rows) - _ROW
        while at >= 0 and self._rows[at] > now:
            self._rows[at] = now
            at -= _ROW

    def frees_at(self, requests: int, tokens: int) -> float:
        """When so many requests and so many tokens will have left; inf if it never held them."""
        rows = self._rows
        for at in range(0, len(rows), _ROW):
            requests -= int(rows[at + 1])
            tokens -= int(rows[at + 2])
            if requests <= 0 and tokens <= 0:
                return rows[at] + self.span_s
        return math.inf

    def dump(self) -> array.array[float]:
        """The rows (stamp, requests, tokens), flat, oldest first."""
        return self._rows

    def load(self, rows: array.array[float]) -> None:
        """Take the rows of a `dump`."""
        self._rows = rows
        self.requests = int(sum(rows[1::_ROW]))
        self.tokens = int(sum(rows[2::_ROW]))

    def __len__(self) -> int:
        return len(self._rows) // _ROW
