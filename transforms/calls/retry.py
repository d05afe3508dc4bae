"""Retry a request while the state of the service is at fault. Only this module retries."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bulkembed.schemas.errors import BadAnswer, CallError, Intercepted, QuotaExceeded
from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.core.backoff import RetryWait
from bulkembed.transforms.core.health import RETRYABLE

log = logging.getLogger("bulkembed")

T = TypeVar("T")

MAX_INTERCEPTED_TRIES = 5
"""Tries of one call that a proxy answers: it may block a text because of its words."""
OUTAGE_REPORT_AFTER = 3
"""Consecutive failures that are reported each time. Fewer are reported the first time only."""
_FAILS = {"once": "the service fails", "clears": "the service answers"}
_ANSWERS = {"once": "the service answers", "clears": "the service fails"}
"""Log extras for messages that only one of several workers shows; see runners/worker.py."""


@dataclasses.dataclass(slots=True)
class Attempts:
    """The attempts of one call, and how long it may fail."""

    deadline_s: float
    resent: bool = False
    """Whether the call is a part of one that failed."""
    suspect_since: float = math.inf
    """When this call, or the call that it is a part of, failed for the first time."""
    count: int = 0
    failures: int = 0
    """Failures because of the state of the service; 429s do not count."""
    rate_limited: int = 0
    """429s."""
    useless: int = 0
    """Useless answers among the failures; each may have cost money."""
    first_failure: float = math.inf

    @property
    def is_retry(self) -> bool:
        """Whether the call's contents were sent before; such calls go first."""
        return self.resent or self.count > 0

    def note_failure(self, now: float, error: CallError) -> None:
        """Count a failure."""
        self.failures += 1
        self.useless += isinstance(error, BadAnswer | Intercepted)
        self.first_failure = min(self.first_failure, now)
        self.suspect_since = min(self.suspect_since, now)

    def remaining_s(self, now: float) -> float:
        """Return the seconds until the call's deadline."""
        return max(0.0, self.first_failure + self.deadline_s - now)

    def is_expired(self, now: float) -> bool:
        """Return whether the call has failed for as long as it may."""
        return now - self.first_failure >= self.deadline_s


class Retrier:
    """Retries after growing waits, until a deadline or the end of the run.

    Args:
        stop: ends all waiting.
        deadline_s: what the log says; the deadline that counts is in the `Attempts` of a call.
        wait: the seconds after a failure.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        stop: StopFlag,
        deadline_s: float,
        wait: RetryWait,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop = stop
        self._deadline_s = deadline_s
        self._wait = wait
        self._clock = clock
        self._consecutive = 0
        self._reported = False
        self._ever_reported = False

    def answered(self) -> None:
        """Record that the service has answered, so that its next outage is reported again."""
        if self._reported and self._consecutive >= OUTAGE_REPORT_AFTER:
            log.info("the service answers again", extra=_ANSWERS)
        self._reported = False
        self._consecutive = 0

    def is_expired(self, attempts: Attempts) -> bool:
        """Return whether a call has failed for as long as it may."""
        return attempts.is_expired(self._clock())

    async def run(
        self,
        work: Callable[[], Awaitable[T]],
        attempts: Attempts,
        *,
        give_up: Callable[[CallError], bool],
    ) -> T:
        """Return the result of the work; retry it while the state of the service is at fault.

        Args:
            work: one attempt.
            attempts: counts the failures.
            give_up: whether to raise the last error instead of retrying.

        Raises:
            JobRejected, CallRejected: at once.
            Unavailable, Intercepted, BadAnswer, QuotaExceeded: the last error.
            Stopping: the run must end.
        """
        while True:
            try:
                return await work()
            except RETRYABLE as error:
                await self.wait_after(error, attempts, give_up=give_up)

    async def wait_after(
        self, error: CallError, attempts: Attempts, *, give_up: Callable[[CallError], bool]
    ) -> None:
        """Count a failure, and return when the work may be tried again.

        Raises:
            Unavailable, Intercepted, BadAnswer, QuotaExceeded: `error`, if `give_up` says so.
            Stopping: the run must end.
        """
        attempts.note_failure(self._clock(), error)
        self._report(error)
        if give_up(error):
            raise error
        wait_s = self._wait.seconds(attempts.failures, error)
        await self._stop.sleep(min(wait_s, attempts.remaining_s(self._clock())))

    def _report(self, error: CallError) -> None:
        """Report each outage once, and single failures between answers only the first time."""
        if isinstance(error, QuotaExceeded):
            return
        self._consecutive += 1
        first = not self._ever_reported
        if self._reported or not (first or self._consecutive >= OUTAGE_REPORT_AFTER):
            return
        self._reported = self._ever_reported = True
        log.warning(
            "%s. bulkembed retries for up to %g s.",
            error.message.rstrip("."),
            self._deadline_s,
            extra=None if first else _FAILS,
        )


def stop_reason(error: CallError) -> StopReason:
    """Return the reason for a run that ends because an error kept its calls from passing."""
    if isinstance(error, BadAnswer):
        return StopReason.USELESS
    return StopReason.REJECTED if isinstance(error, Intercepted) else StopReason.UNAVAILABLE
