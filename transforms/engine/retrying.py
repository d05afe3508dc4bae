"""The same call again, while the service's state is at fault: the one place that does so."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import tenacity

from schemas.errors import CallError, QuotaExceeded
from transforms.core.backoff import RetryWait
from transforms.core.health import RETRIED
from transforms.engine.attempts import Attempts
from transforms.engine.stopping import StopFlag

log = logging.getLogger("bulkembed")

T = TypeVar("T")

OUTAGE_REPORT_AFTER = 3
"""Failures in a row that are reported each time.  Fewer are reported the first time only."""
_FAILS = {"once": "the service fails", "clears": "the service answers"}
_ANSWERS = {"once": "the service answers", "clears": "the service fails"}
"""Log extras for messages that only one of several workers shows; see pipeline.worker."""


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
            retry=tenacity.retry_if_exception_type(RETRIED),
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
