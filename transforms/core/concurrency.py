"""How many calls to have in the air: as many as the quota and the latency call for."""

from __future__ import annotations

import math

START = 4
UNLIMITED = 16
"""The level that is aimed at where no quota says what is needed."""
HEADROOM = 2.0
"""Calls in the air over limit x latency: windows are filled in bursts, and latency varies."""
CUT = 0.5
_SMOOTHING = 0.1


class ConcurrencyLevel:
    """A number of calls, from 1 to `most`, found by additive increase, multiplicative decrease.

    Until the first fault the level doubles in each round trip (4, 8, 16), then it grows by
    one in each; a fault (503, 504, time-out, reset; not a 429) halves it, once a round trip: only
    calls sent after the last cut count. Where the quota allows `calls_per_s`, the ceiling follows
    Little's law: twice limit x latency, but never less than 16 calls, for a window that may
    be filled at once. Latency is a smoothed mean of the answered calls, in seconds. Times are of
    one clock of this process, preferably one that never goes back.
    """

    def __init__(self, most: int, start: int = START, burst: int = UNLIMITED) -> None:
        self.most = most
        self.burst = burst
        self.latency_s = 0.0
        self._level = float(max(1, min(start, most)))
        self._slow_start = True
        self._cut_at = -math.inf

    def level(self, calls_per_s: float | None = None) -> int:
        """The calls that may be in the air; `calls_per_s` is what the quota lets through."""
        return max(1, int(min(self._level, self.ceiling(calls_per_s))))

    def ceiling(self, calls_per_s: float | None = None) -> int:
        """The most that is of use: limit x latency and headroom, within `most`."""
        if calls_per_s is None:
            return self.most
        needed = math.ceil(HEADROOM * calls_per_s * self.latency_s)
        return min(self.most, max(self.burst, needed))

    def succeeded(self, sent_at: float, now: float, in_flight: int) -> None:
        """A call sent at `sent_at` was answered at `now`; `in_flight` counts it still.

        A level that is not used does not grow.
        """
        took = max(0.0, now - sent_at)
        self.latency_s += (_SMOOTHING if self.latency_s else 1.0) * (took - self.latency_s)
        if sent_at < self._cut_at or 2 * in_flight < self._level:
            return
        step = 1.0 if self._slow_start else 1.0 / self._level
        self._level = min(float(self.most), self._level + step)

    def failed(self, sent_at: float, now: float) -> bool:
        """A call sent at `sent_at` came to nothing; True if the level was cut for it."""
        self._cut_at = min(self._cut_at, now)
        if sent_at < self._cut_at:
            return False
        self._slow_start = False
        self._cut_at = now
        self._level = max(1.0, self._level * CUT)
        return True
