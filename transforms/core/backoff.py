"""How long to wait: one call after a failure, and all calls after a 429 or in an outage.

Clock and randomness are arguments: `now` is in epoch seconds, and randomness is a number from 0 to
1 or a function that returns one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from bulkembed.schemas.errors import CallError

Random = Callable[[], float]


def grow_s(attempt: int, first_s: float, cap_s: float) -> float:
    """Return `first_s`, doubled with each attempt after the first, at most `cap_s`."""
    return min(cap_s, first_s * 2.0 ** min(max(0, attempt - 1), 60))


def equal_jitter_s(base_s: float, random: float) -> float:
    """Return a wait between half of `base_s` and all of it: never 0.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return base_s * (0.5 + 0.5 * random)


def retry_wait_s(
    attempt: int,
    random: float,
    *,
    first_s: float = 0.5,
    cap_s: float = 30.0,
    server_delay_s: float | None = None,
) -> float:
    """Return the seconds before attempt `attempt + 1`; attempts are counted from 1.

    The wait grows with equal jitter up to a cap. It is never shorter than the server's delay, even
    above the cap: the jitter is then added to the delay, at most a tenth of it and one second.
    """
    backoff_s = equal_jitter_s(grow_s(attempt, first_s, cap_s), random)
    if server_delay_s is None or server_delay_s <= 0:
        return backoff_s
    return max(backoff_s, server_delay_s + shared_delay_jitter_s(server_delay_s, random))


def shared_delay_jitter_s(delay_s: float, random: float) -> float:
    """Return what to add to a delay that others wait for too: at most a tenth and one second."""
    return min(1.0, 0.1 * delay_s) * random


@dataclasses.dataclass(frozen=True, slots=True)
class RetryWait:
    """How long one call waits after a failure: `retry_wait_s` with a source of randomness."""

    random: Random
    first_s: float = 0.5
    cap_s: float = 30.0

    def seconds(self, failures: int, error: CallError) -> float:
        """Return the wait after so many failures of the call; `error` is the last one."""
        return retry_wait_s(
            failures,
            self.random(),
            first_s=self.first_s,
            cap_s=self.cap_s,
            server_delay_s=error.retry_delay_s,
        )


MAX_DELAY_S = 3600.0
"""A longer delay of the service is cut to an hour, because the pause is stored for all runs."""


class PauseState:
    """A pause for all calls, then one probe, then all calls again.

    The pause lasts as long as the service's delay or the floor, whichever is longer. The floor
    doubles from `first_s` to `cap_s` each time a call fails that was sent after the last failure.
    A success resets it. Failures of calls that were in flight already do not raise it. One object
    serves 429s (1 s to 60 s), and others serve outages (for example 0.5 s to 5 s).
    """

    __slots__ = ("cap_s", "failed_at", "first_s", "floor_s", "length_s", "probing", "until")

    def __init__(self, first_s: float = 1.0, cap_s: float = 60.0) -> None:
        self.first_s = first_s
        self.cap_s = cap_s
        self.floor_s = 0.0
        self.until = 0.0
        self.length_s = 0.0
        self.failed_at = 0.0
        self.probing = False

    def wait_s(self, now: float) -> float:
        """Return the seconds until the pause is over, 0.0 if it is.

        This is at most the length of the pause: a clock that was set back does not prolong it.
        """
        self.failed_at = min(self.failed_at, now)
        self.until = min(self.until, now + self.length_s)
        return max(0.0, self.until - now)

    def failed(self, now: float, sent_at: float, delay_s: float | None, jitter: float) -> float:
        """Pause after a failure of a call sent at `sent_at`; return the seconds until the end.

        `jitter`, from 0 to 1, is added (`shared_delay_jitter_s`), so that hosts resume at different
        times. A running pause is never shortened.
        """
        if self.floor_s == 0.0 or sent_at >= self.failed_at:
            self.floor_s = min(self.cap_s, max(self.first_s, 2 * self.floor_s))
            self.failed_at = now
        length_s = max(min(delay_s or 0.0, MAX_DELAY_S), self.floor_s)
        length_s += shared_delay_jitter_s(length_s, jitter)
        if length_s > self.wait_s(now):
            self.until = now + length_s
            self.length_s = length_s
        self.probing = True
        return self.wait_s(now)

    def succeeded(self, sent_at: float) -> None:
        """Record a success; if the call was sent after the last failure, the floor is reset."""
        if sent_at >= self.failed_at:
            self.floor_s = 0.0
            self.probing = False

    def dump(self) -> tuple[float, ...]:
        """Return the state as numbers."""
        return (self.floor_s, self.until, self.length_s, self.failed_at, self.probing)

    def load(self, numbers: Sequence[float]) -> None:
        """Restore the state from the numbers of `dump`."""
        self.floor_s, self.until, self.length_s, self.failed_at = numbers[:4]
        self.probing = bool(numbers[4])
