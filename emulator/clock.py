"""A wall clock that tests can move."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Seconds since the epoch, plus an offset that may be set while the server runs.

    Quota windows, the quota's day and outages go by it; latencies do not.
    """

    def __init__(self, source: Callable[[], float] = time.time, offset_s: float = 0.0) -> None:
        self._source = source
        self.offset_s = offset_s

    def now(self) -> float:
        """The time as this server sees it."""
        return self._source() + self.offset_s
