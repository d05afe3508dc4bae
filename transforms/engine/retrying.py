"""The same call again, while the service's state is at fault: the one place that does so."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import tenacity

from schemas.errors import BadAnswer, CallError, QuotaExceeded, Unavailable
from transforms.core.backoff import RetryWait
from transforms.engine.attempts import Attempts
from transforms.engine.stopping import StopFlag

log = logging.getLogger("bulkembed")

T = TypeVar("T")

RETRIED = (Unavailable, BadAnswer, QuotaExceeded)
"""Errors about the service's state: the same call again, never split."""


class Retrier:
    """Tries again after a wait that grows, until a deadline or the end of the run.

    Args:
        stop: ends all waiting.
        deadline_s: what is told to people; each run of work has its own, in its attempts.
        wait: seconds after an attempt, by tenacity's state.
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
        self._told = False

    def answered(self) -> None:
        """The service has answered: its next failure is told again."""
        self._told = False

    async def run(self, work: Callable[[], Awaitable[T]], attempts: Attempts) -> T:
        """What the work gives, tried again while the service's state is at fault.

        Raises:
            JobRefused, CallRefused: at once.
            Unavailable, BadAnswer, QuotaExceeded: the last one, when the deadline is over.
            Stopping: the run is to end.
        """
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(RETRIED),
            wait=lambda state: min(self._wait(state), attempts.left_s(self._clock())),
            stop=lambda _: attempts.over(self._clock()),
            sleep=self._stop.sleep,
            reraise=True,
        ):
            with attempt:
                try:
                    return await work()
                except RETRIED as error:
                    attempts.note_failure(self._clock())
                    self._tell(error)
                    raise
        raise AssertionError("tenacity ends with an answer or an error")

    def _tell(self, error: CallError) -> None:
        """Says once that the service fails, and again only after it has answered."""
        if not self._told and not isinstance(error, QuotaExceeded):
            self._told = True
            log.warning("%s; tried again for up to %g s", error.message, self._deadline_s)
