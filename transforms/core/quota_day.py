"""The day's counter, which starts anew at midnight in California."""

from __future__ import annotations

import datetime
import math
import zoneinfo
from collections.abc import Sequence

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
