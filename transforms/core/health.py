"""What the last answers say about the service: is it down, and are useless answers paid for?"""

from __future__ import annotations

import math

from bulkembed.schemas.errors import BadAnswer, CallError, Intercepted, QuotaExceeded, Unavailable
from bulkembed.transforms.core.backoff import PauseState

OUTAGE_AFTER = 8
"""Failures in a row, over all calls, after which the service counts as down."""
USELESS_AFTER = 3
"""The same for answers that cost money or come from a proxy."""
BAD_PROBES = 4
"""The most probes, about 30 s of them, that may get useless answers.  With 16 calls of 100 texts in
flight, at most 2,000 texts are paid for in vain."""
INTERCEPTED_PROBES = 3


class Streak:
    """Failures of one kind in a row, over all calls of a process; a success ends it.

    After `after` of them calls go one by one, as probes, behind a pause that grows from `first_s`
    to `cap_s`.

    Args:
        most_probes: failed probes after which there is no hope.
    """

    def __init__(
        self, after: int, first_s: float, cap_s: float, most_probes: float = math.inf
    ) -> None:
        self.pause = PauseState(first_s, cap_s)
        self.in_row = 0
        self._after = after
        self._most_probes = most_probes
        self._probes = 0

    @property
    def hopeless(self) -> bool:
        """Whether so many probes have failed that the run must end."""
        return self._probes >= self._most_probes

    def failed(self, now: float, sent_at: float, jitter: float) -> None:
        """A call that was sent at `sent_at` has failed."""
        was_probe = self.pause.probing and sent_at >= self.pause.refused_at
        self.in_row += 1
        if self.in_row >= self._after:
            self._probes += was_probe
            self.pause.refused(now, sent_at, None, jitter)

    def succeeded(self, sent_at: float) -> None:
        """A call that was sent at `sent_at` went well."""
        self.in_row = self._probes = 0
        self.pause.succeeded(sent_at)


class ServiceHealth:
    """Whether the service gives useful answers; one object per process.

    Answers that are no use count as failures do, and weigh more: each of them may have been paid.
    After the first one no further call is sent until one comes back that is of use.
    """

    def __init__(self) -> None:
        self._down = Streak(OUTAGE_AFTER, 0.5, 5.0)
        self._bad = Streak(USELESS_AFTER, 2.0, 60.0, BAD_PROBES)
        self._intercepted = Streak(USELESS_AFTER, 1.0, 60.0, INTERCEPTED_PROBES)
        self._streaks = (self._down, self._bad, self._intercepted)

    @property
    def one_at_a_time(self) -> bool:
        """Whether only one call may be in flight."""
        return self._bad.in_row > 0 or any(one.pause.probing for one in self._streaks)

    @property
    def hopeless(self) -> bool:
        """Whether no useful answer has come for so long that the run must end."""
        return any(one.hopeless for one in self._streaks)

    def wait_s(self, now: float) -> float:
        """Seconds until the next probe may go."""
        return max(one.pause.wait_s(now) for one in self._streaks)

    def succeeded(self, sent_at: float) -> None:
        """A call that was sent at `sent_at` has brought vectors."""
        for one in self._streaks:
            one.succeeded(sent_at)

    def failed(self, now: float, sent_at: float, error: CallError, jitter: float) -> None:
        """A call that was sent at `sent_at` has failed; 429s and refusals do not count."""
        if isinstance(error, BadAnswer):
            self._bad.failed(now, sent_at, jitter)
        elif isinstance(error, Intercepted):
            self._intercepted.failed(now, sent_at, jitter)
        elif isinstance(error, Unavailable):
            self._down.failed(now, sent_at, jitter)


RETRIED = (Unavailable, Intercepted, BadAnswer, QuotaExceeded)
"""Errors about the service's state, after which the same call is sent again."""
