"""How long to stay away: after a refusal for all together, after a fault for one call.

Everything is computed from explicit state, so no test sleeps: `now` is epoch seconds, and
randomness is a number in [0, 1) or a callable that gives one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from bulkembed.schemas.errors import CallError

Random = Callable[[], float]


def grow_s(attempt: int, first_s: float, cap_s: float) -> float:
    """`first_s` doubled with each attempt after the first, up to `cap_s`."""
    return min(cap_s, first_s * 2.0 ** min(max(0, attempt - 1), 60))


def equal_jitter_s(base_s: float, random: float) -> float:
    """Between half of `base_s` and the whole: never at once.

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
    """Seconds before attempt `attempt + 1`, counted from 1.

    It grows with equal jitter and is capped. The server's delay is never undercut, even above the
    cap: the jitter then comes on top of it, up to a tenth and a second at most.
    """
    own = equal_jitter_s(grow_s(attempt, first_s, cap_s), random)
    if server_delay_s is None or server_delay_s <= 0:
        return own
    return max(own, server_delay_s + waking_jitter_s(server_delay_s, random))


def waking_jitter_s(delay_s: float, random: float) -> float:
    """What to add to a delay that others wait for as well: a tenth of it, one second at most."""
    return min(1.0, 0.1 * delay_s) * random


@dataclasses.dataclass(frozen=True, slots=True)
class RetryWait:
    """How long one call stays away after a failure: `retry_wait_s` with a source of chance."""

    random: Random
    first_s: float = 0.5
    cap_s: float = 30.0

    def seconds(self, failures: int, error: CallError) -> float:
        """Return the wait after so many failures of the call, the last of which is `error`."""
        return retry_wait_s(
            failures,
            self.random(),
            first_s=self.first_s,
            cap_s=self.cap_s,
            server_delay_s=error.retry_delay_s,
        )


MOST_DELAY_S = 3600.0
"""A service that asks for more is asked again after an hour: the pause is kept for all runs."""


class PauseState:
    """One pause for everybody, then one probe, then everybody again.

    The pause lasts max(the service's delay, a floor). The floor doubles from `first_s` to `cap_s`
    while a call that was sent after the last refusal is refused again, and is forgotten on
    a success. Refusals of calls which were in the air already do not make it grow.
    Serves 429s (1 s to 60 s) and, as another instance, outages (say 0.5 s to 5 s).
    """

    __slots__ = ("cap_s", "first_s", "floor_s", "length_s", "probing", "refused_at", "until")

    def __init__(self, first_s: float = 1.0, cap_s: float = 60.0) -> None:
        self.first_s = first_s
        self.cap_s = cap_s
        self.floor_s = 0.0
        self.until = 0.0
        self.length_s = 0.0
        self.refused_at = 0.0
        self.probing = False

    def wait_s(self, now: float) -> float:
        """Seconds until the pause is over, 0.0 if it is.

        Never more than the pause was long: a clock that was set back does not prolong it.
        """
        self.refused_at = min(self.refused_at, now)
        self.until = min(self.until, now + self.length_s)
        return max(0.0, self.until - now)

    def refused(self, now: float, sent_at: float, delay_s: float | None, jitter: float) -> float:
        """Pause after a refusal of a call sent at `sent_at`; gives the seconds until its end.

        `jitter` in [0, 1) comes on top (`waking_jitter_s`), so that hosts wake apart.
        """
        if self.floor_s == 0.0 or sent_at >= self.refused_at:
            self.floor_s = min(self.cap_s, max(self.first_s, 2 * self.floor_s))
            self.refused_at = now
        length = max(min(delay_s or 0.0, MOST_DELAY_S), self.floor_s)
        self.hold(now, length + waking_jitter_s(length, jitter))
        self.probing = True
        return self.wait_s(now)

    def hold(self, now: float, length_s: float) -> None:
        """Nobody may go for `length_s` from `now`; never shortens a pause."""
        if length_s > self.wait_s(now):
            self.until = now + length_s
            self.length_s = length_s

    def succeeded(self, sent_at: float) -> None:
        """A call went well: if it was sent after the last refusal, the floor is forgotten."""
        if sent_at >= self.refused_at:
            self.floor_s = 0.0
            self.probing = False

    def dump(self) -> tuple[float, ...]:
        """The state as numbers."""
        return (self.floor_s, self.until, self.length_s, self.refused_at, self.probing)

    def load(self, state: Sequence[float]) -> None:
        """Take the numbers of a `dump`."""
        self.floor_s, self.until, self.length_s, self.refused_at = state[:4]
        self.probing = bool(state[4])
