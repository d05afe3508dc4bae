"""Retry calls about batch jobs, and transfers of their files, while the service is at fault.

This is the only place that retries them; `transforms/calls/retry.py` retries online requests.
"""

from __future__ import annotations

import dataclasses
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

import tenacity

from bulkembed.schemas.errors import CallError
from bulkembed.transforms.core.backoff import RetryWait
from bulkembed.transforms.core.health import RETRYABLE

REPORT_AFTER = 3
"""Failures of a call after which the user is informed that it is retried."""
T = TypeVar("T")

log = logging.getLogger("bulkembed")


def _never() -> bool:
    return False


@dataclasses.dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a call is repeated that failed for a reason that may pass."""

    timeout_s: float = 600.0
    """How long a call is retried, or a transfer that gets no further."""
    stopped: Callable[[], bool] = _never
    """Whether the run must end: then no failure is retried."""
    sleep: Callable[[float], None] = time.sleep
    """Waits so many seconds, or until the run must end."""
    clock: Callable[[], float] = time.monotonic
    """Seconds, monotonic."""

    def run(self, call: Callable[[], T], errors: tuple[type[CallError], ...] = RETRYABLE) -> T:
        """Return the result of a call that may be repeated any number of times.

        Args:
            call: one attempt.
            errors: those after which it is repeated.

        Raises:
            CallError: the last error, or one that no repetition helps against.
        """
        return Retries(self).run(call, errors)


class Retries:
    """The attempts of one call, or of one transfer, which may consist of several calls.

    Args:
        policy: how they are repeated.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._wait = RetryWait(random.random)
        self._since = policy.clock()
        self._failures = self._furthest = 0

    def reached(self, position: int) -> None:
        """Note how far a transfer is.

        Further than ever before is progress, and the time begins again. A transfer that gets to
        the same place again and again must end.
        """
        if position > self._furthest:
            self._furthest, self._failures, self._since = position, 0, self._policy.clock()

    def run(self, call: Callable[[], T], errors: tuple[type[CallError], ...] = RETRYABLE) -> T:
        """Return the result of a call, see `RetryPolicy.run`."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(errors),
            after=self._note,  # Before the wait, which depends on what it counts.
            wait=self._wait_s,
            stop=lambda _: self._remaining_s <= 0 or self._policy.stopped(),
            before_sleep=self._report,
            sleep=self._policy.sleep,
            reraise=True,
        )
        return retrying(call)

    @property
    def _remaining_s(self) -> float:
        return self._since + self._policy.timeout_s - self._policy.clock()

    def _note(self, _: tenacity.RetryCallState) -> None:
        self._failures += 1

    def _report(self, state: tenacity.RetryCallState) -> None:
        log.log(
            logging.WARNING if self._failures == REPORT_AFTER else logging.DEBUG,
            "%s. bulkembed retries for up to %g s.",
            _error(state).message.rstrip("."),
            self._policy.timeout_s,
        )

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        return min(self._wait.seconds(self._failures, _error(state)), max(0.0, self._remaining_s))


def _error(state: tenacity.RetryCallState) -> CallError:
    """Return the error of the last attempt."""
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, CallError)
    return error
