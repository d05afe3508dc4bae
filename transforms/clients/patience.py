"""How long a transfer goes on although it fails: a few failures in a row, with growing waits."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from bulkembed.schemas.errors import CallError
from bulkembed.transforms.core.backoff import retry_wait_s

MAX_FAILURES = 8
"""Consecutive failures after which a transfer ends; their waits take 30 to 60 s."""


class Patience:
    """Waits after each failure of a transfer, and raises the last one if nothing helps.

    Args:
        sleep: waits so many seconds.
    """

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._failures = self._furthest = 0

    def reached(self, position: int) -> None:
        """Note how far the transfer is.

        Further than ever before is progress: the next failure counts as the first.  A transfer that
        gets to the same place again and again must end.
        """
        if position > self._furthest:
            self._furthest, self._failures = position, 0

    def failed(self, error: CallError) -> None:
        """Wait after a failure.

        Raises:
            CallError: this error, if it is the last one of too many.
        """
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            raise error
        delay_s = error.retry_delay_s
        self._sleep(retry_wait_s(self._failures, random.random(), server_delay_s=delay_s))
