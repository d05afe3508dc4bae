"""Whether the service gives useful answers, is down, or takes money for useless answers."""

from __future__ import annotations

import math

from bulkembed.schemas.errors import BadAnswer, CallError, Intercepted, QuotaExceeded, Unavailable
from bulkembed.transforms.core.backoff import PauseState

RETRYABLE = (Unavailable, Intercepted, BadAnswer, QuotaExceeded)
"""Errors about the state of the service, after which the same call is retried."""

OUTAGE_AFTER = 8
"""Consecutive failures, over all calls, after which the service counts as down."""
USELESS_AFTER = 3
"""The same for answers that cost money or come from a proxy."""
MAX_BAD_PROBES = 4
"""Probes with useless answers, over about 30 s, after which the run ends. With 16 calls of 100
texts in flight, at most 2,000 texts are paid for in vain."""
MAX_INTERCEPTED_PROBES = 3


class FailureStreak:
    """Consecutive failures of one kind, over all calls of a process; a success ends the streak.

    After `after` of them, calls are sent one by one, as probes, after a pause that grows from
    `first_s` to `cap_s`.

    Args:
        after: consecutive failures that start the probes.
        first_s: the first pause.
        cap_s: the longest pause.
        max_probes: failed probes after which the run must end.
    """

    def __init__(
        self, after: int, first_s: float, cap_s: float, max_probes: float = math.inf
    ) -> None:
        self.pause = PauseState(first_s, cap_s)
        self.failures = 0
        self._after = after
        self._max_probes = max_probes
        self._failed_probes = 0

    @property
    def hopeless(self) -> bool:
        """Whether so many probes have failed that the run must end."""
        return self._failed_probes >= self._max_probes

    def failed(self, now: float, sent_at: float, jitter: float) -> None:
        """Record a failure of a call that was sent at `sent_at`."""
        was_probe = self.pause.probing and sent_at >= self.pause.failed_at
        self.failures += 1
        if self.failures >= self._after:
            self._failed_probes += was_probe
            self.pause.failed(now, sent_at, None, jitter)

    def succeeded(self, sent_at: float) -> None:
        """Record a success of a call that was sent at `sent_at`."""
        self.failures = self._failed_probes = 0
        self.pause.succeeded(sent_at)


class ServiceHealth:
    """Whether the service gives useful answers; one object per process.

    Useless answers count as failures and weigh more, because each may have cost money. After the
    first useless answer, only one call is in flight until a useful answer arrives.
    """

    def __init__(self) -> None:
        self._outage = FailureStreak(OUTAGE_AFTER, 0.5, 5.0)
        self._bad = FailureStreak(USELESS_AFTER, 2.0, 60.0, MAX_BAD_PROBES)
        self._intercepted = FailureStreak(USELESS_AFTER, 1.0, 60.0, MAX_INTERCEPTED_PROBES)
        self._streaks = (self._outage, self._bad, self._intercepted)

    @property
    def one_at_a_time(self) -> bool:
        """Whether only one call may be in flight."""
        return self._bad.failures > 0 or any(one.pause.probing for one in self._streaks)

    @property
    def hopeless(self) -> bool:
        """Whether no useful answer has arrived for so long that the run must end."""
        return any(one.hopeless for one in self._streaks)

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next probe may be sent."""
        return max(one.pause.wait_s(now) for one in self._streaks)

    def succeeded(self, sent_at: float) -> None:
        """Record that a call sent at `sent_at` returned vectors."""
        for one in self._streaks:
            one.succeeded(sent_at)

    def failed(self, now: float, sent_at: float, error: CallError, jitter: float) -> None:
        """Record that a call sent at `sent_at` failed; 429s and rejected requests do not count."""
        if isinstance(error, BadAnswer):
            self._bad.failed(now, sent_at, jitter)
        elif isinstance(error, Intercepted):
            self._intercepted.failed(now, sent_at, jitter)
        elif isinstance(error, Unavailable):
            self._outage.failed(now, sent_at, jitter)
