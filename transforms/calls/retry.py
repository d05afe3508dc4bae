"""The same call again, while the service's state is at fault: the one place that does so."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import tenacity

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import BadAnswer, CallError, Intercepted, QuotaExceeded
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.core.backoff import RetryWait
from bulkembed.transforms.core.health import RETRYABLE

_CODES = {"too_long": DeadCode.TOO_LONG, "empty_part": DeadCode.BLANK_TEXT}


def dead_code(error: CallError) -> DeadCode:
    """Return the code of a row that fails for good because it was refused."""
    return _CODES.get(error.code, DeadCode.REFUSED)


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


log = logging.getLogger("bulkembed")

T = TypeVar("T")

OUTAGE_REPORT_AFTER = 3
"""Failures in a row that are reported each time.  Fewer are reported the first time only."""
_FAILS = {"once": "the service fails", "clears": "the service answers"}
_ANSWERS = {"once": "the service answers", "clears": "the service fails"}
"""Log extras for messages that only one of several workers shows; see runners/worker.py."""


class Retrier:
    """Tries again after a wait that grows, until a deadline or the end of the run.

    Args:
        stop: ends all waiting.
        deadline_s: what the log says; each run of work has its own, in its attempts.
        wait: seconds after a failure.
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
        self._in_row = 0
        self._reported = False
        self._ever_reported = False

    def answered(self) -> None:
        """Note that the service has answered, so that its next outage is reported again."""
        if self._reported and self._in_row >= OUTAGE_REPORT_AFTER:
            log.info("the service answers again", extra=_ANSWERS)
        self._reported = False
        self._in_row = 0

    async def run(
        self,
        work: Callable[[], Awaitable[T]],
        attempts: Attempts,
        *,
        over: Callable[[CallError], bool] | None = None,
        gated: bool = True,
    ) -> T:
        """Return the result of the work; retry it while the service's state is at fault.

        Args:
            work: one try.
            attempts: what is counted of them.
            over: whether the last error is not to be tried again; by default at the deadline.
            gated: the work passes a gate that holds everybody back after a 429, so that there is
                nothing to wait for here.

        Raises:
            JobRefused, CallRefused: at once.
            Unavailable, Intercepted, BadAnswer, QuotaExceeded: the last one.
            Stopping: the run is to end.
        """

        def counts(state: tenacity.RetryCallState) -> bool:
            return not (gated and isinstance(_error(state), QuotaExceeded))

        def note(state: tenacity.RetryCallState) -> None:
            if counts(state):
                attempts.note_failure(self._clock(), _error(state))
                self._report(_error(state))

        def is_over(state: tenacity.RetryCallState) -> bool:
            if not counts(state):
                return False
            return attempts.over(self._clock()) if over is None else over(_error(state))

        def wait_s(state: tenacity.RetryCallState) -> float:
            if not counts(state):
                return 0.0
            wanted = self._wait.seconds(attempts.failures, _error(state))
            return min(wanted, attempts.left_s(self._clock()))

        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(RETRYABLE),
            after=note,  # Before the wait and the stop, which depend on what it counts.
            wait=wait_s,
            stop=is_over,
            sleep=self._stop.sleep,
            reraise=True,
        ):
            with attempt:
                return await work()
        raise AssertionError("tenacity ends with an answer or an error")

    def _report(self, error: CallError) -> None:
        """Report each outage once, and single failures between good answers the first time."""
        if isinstance(error, QuotaExceeded):
            return
        self._in_row += 1
        first = not self._ever_reported
        if self._reported or not (first or self._in_row >= OUTAGE_REPORT_AFTER):
            return
        self._reported = self._ever_reported = True
        log.warning(
            "%s; bulkembed tries again for up to %g s",
            error.message,
            self._deadline_s,
            extra=None if first else _FAILS,
        )


def _error(state: tenacity.RetryCallState) -> CallError:
    """Return the error of the last try."""
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, CallError)
    return error
