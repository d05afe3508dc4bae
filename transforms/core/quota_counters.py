"""The day's counter, which starts anew at midnight in California."""

from __future__ import annotations

import array
import datetime
import math
import zoneinfo
from collections.abc import Sequence

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


PACIFIC = zoneinfo.ZoneInfo("America/Los_Angeles")
DAY_MARGIN_S = 1.0
"""So long after midnight the new day is begun: the two clocks need not agree."""
_FAR_BACK_S = 26 * 3600.0


def next_pacific_midnight(now: float) -> float:
    """The first midnight of America/Los_Angeles after `now`, both in epoch seconds.

    Days of 23 and 25 hours come out right: the date is counted on, then turned back into UTC.
    """
    today = datetime.datetime.fromtimestamp(now, PACIFIC).date()
    tomorrow = today + datetime.timedelta(days=1)
    midnight = datetime.datetime.combine(tomorrow, datetime.time(), PACIFIC)
    return midnight.timestamp()


class DayCounter:
    """Requests of the Pacific day, those in the air included."""

    __slots__ = ("ends_at", "spent", "used")

    def __init__(self) -> None:
        self.used = 0
        self.spent = False
        self.ends_at = 0.0

    def roll(self, now: float, in_flight: int) -> None:
        """Begin a new day where the old one is over.

        What is in the air then may be counted in either day: it counts in both. A clock that
        is a day behind the counter (it was set back) begins anew as well, so that nothing sticks.
        """
        if self.ends_at - _FAR_BACK_S <= now < self.ends_at:
            return
        self.ends_at = next_pacific_midnight(now - DAY_MARGIN_S) + DAY_MARGIN_S
        self.used = in_flight
        self.spent = False

    def left(self, limit: int | None) -> float:
        """Requests left of the day; inf without a limit, unless the service called it spent."""
        if self.spent:
            return 0
        return math.inf if limit is None else max(0, limit - self.used)

    def dump(self) -> tuple[float, ...]:
        """The state as numbers."""
        return (self.used, self.spent, self.ends_at)

    def load(self, state: Sequence[float]) -> None:
        """Take the numbers of a `dump`."""
        self.used, self.spent, self.ends_at = int(state[0]), bool(state[1]), state[2]
