"""When the service is down for too long, so that the run must end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from bulkembed.schemas.errors import CallError
from bulkembed.transforms.calls.retry import stop_reason
from bulkembed.transforms.calls.stop_messages import failed_throughout_message, hopeless_message
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.core.health import RETRYABLE


class ServiceOutage:
    """The time for which no call has passed. Ends the run after one call deadline.

    Lives on one event loop.

    Args:
        stop: set when the run must end.
        deadline_s: how long calls may fail before one passes.
        clock: seconds, monotonic.
    """

    def __init__(self, stop: StopFlag, deadline_s: float, clock: Callable[[], float]) -> None:
        self._stop = stop
        self._deadline_s = deadline_s
        self._clock = clock
        self._failing_since = math.inf

    def answered(self) -> None:
        """Note that a call has passed."""
        self._failing_since = math.inf

    def failed(self, error: CallError) -> None:
        """Note that a call has failed."""
        if isinstance(error, RETRYABLE):
            self._failing_since = min(self._failing_since, self._clock())

    def pause(self, wait_s: float, error: CallError) -> None:
        """Note that nothing is sent for a time; end the run at the deadline if that comes first.

        Args:
            wait_s: the time.
            error: the 429 that asks for it.
        """
        remaining_s = self._remaining_s()
        if wait_s > remaining_s:
            loop, since = asyncio.get_running_loop(), self._failing_since
            loop.call_later(remaining_s, self._end_run_if_failing_since, since, error)

    def check(self, error: CallError, started: float, *, is_hopeless: bool) -> None:
        """End the run if no call has had a useful answer for too long.

        Args:
            error: of the last call.
            started: when that call was sent.
            is_hopeless: whether the useless answers alone are reason enough.
        """
        if not isinstance(error, RETRYABLE):
            return
        if is_hopeless:
            self._stop.set(stop_reason(error), hopeless_message(error))
        elif started >= self._failing_since and self._remaining_s() <= 0:
            self._end_run(error)

    def _remaining_s(self) -> float:
        """Return the seconds until no call has passed for one call deadline."""
        return self._failing_since + self._deadline_s - self._clock()

    def _end_run_if_failing_since(self, since: float, error: CallError) -> None:
        """End the run if no call has passed since then."""
        if self._failing_since == since:
            self._end_run(error)

    def _end_run(self, error: CallError) -> None:
        self._stop.set(stop_reason(error), failed_throughout_message(self._deadline_s, error))
