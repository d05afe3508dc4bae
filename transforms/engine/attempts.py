"""The tries of one call, and what is said when there can be none before tomorrow."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math

from schemas.errors import BadAnswer, CallError, Intercepted


@dataclasses.dataclass(slots=True)
class CallStats:
    """What a process has sent so far; the fields are the names of counters, and only grow."""

    calls_sent: int = 0
    calls_retried: int = 0
    calls_refused: int = 0
    """429s."""


@dataclasses.dataclass(slots=True)
class Attempts:
    """The tries of one call, and how long it may fail.

    `failures` are those about the service; `useless` are answers of no use among them, each of
    which may have cost money.
    """

    deadline_s: float
    resent: bool = False
    """Whether the call is a piece of one that failed."""
    suspect_since: float = math.inf
    """When the call, or the call that it was cut from, failed for the first time."""
    count: int = 0
    failures: int = 0
    useless: int = 0
    first_failure: float = math.inf

    @property
    def again(self) -> bool:
        """Whether its texts were sent before; such calls go first."""
        return self.resent or self.count > 0

    def note_failure(self, now: float, error: CallError) -> None:
        """Count a failure of the call; a 429, after which all calls wait, does not count."""
        self.failures += 1
        self.useless += isinstance(error, BadAnswer | Intercepted)
        self.first_failure = min(self.first_failure, now)
        self.suspect_since = min(self.suspect_since, now)

    def left_s(self, now: float) -> float:
        """Seconds until the call's deadline has passed."""
        return max(0.0, self.first_failure + self.deadline_s - now)

    def over(self, now: float) -> bool:
        """Whether the call has failed for as long as it may."""
        return now - self.first_failure >= self.deadline_s


def day_spent_message(resets_at: object) -> str:
    """When the day's quota is back, in the zone of whoever reads it."""
    when = dt.datetime.fromtimestamp(float(str(resets_at))).astimezone()
    return (
        f"the day's quota is spent; it is back at {when:%Y-%m-%d %H:%M %Z}: "
        "run the same command again then"
    )
