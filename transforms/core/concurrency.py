"""How many calls may be in flight: what the quota and the latency require."""

from __future__ import annotations

import math

START = 8
BURST = 16
"""The quota never lowers the ceiling below this: a window may be filled at once."""
HEADROOM = 2.0
"""Calls in flight per limit x latency: windows are filled in bursts, and latency varies."""
CUT = 0.5
_SMOOTHING = 0.1


class ConcurrencyLevel:
    """A number of calls from 1 to `maximum`: additive increase, multiplicative decrease.

    Until the first fault, the level doubles in each round trip (8, 16, 32). After it, the level
    grows by one in each. A fault (503, 504, time-out, reset; not a 429) halves it once per round
    trip: only calls sent after the last cut count. If the quota allows `calls_per_s`, the ceiling
    follows Little's law: twice limit x latency, but at least `burst` calls. Latency is a smoothed
    mean of the answered calls, in seconds. All times come from one clock of this process,
    preferably a monotonic one.
    """

    def __init__(self, maximum: int, start: int = START, burst: int = BURST) -> None:
        self.maximum = maximum
        self.burst = burst
        self.latency_s = 0.0
        self._level = float(max(1, min(start, maximum)))
        self._slow_start = True
        self._cut_at = -math.inf

    def level(self, calls_per_s: float | None = None) -> int:
        """Return how many calls may be in flight; `calls_per_s` is what the quota allows."""
        return max(1, int(min(self._level, self.ceiling(calls_per_s))))

    def ceiling(self, calls_per_s: float | None = None) -> int:
        """Return the highest useful level: limit x latency with headroom, at most `maximum`."""
        if calls_per_s is None:
            return self.maximum
        needed = math.ceil(HEADROOM * calls_per_s * self.latency_s)
        return min(self.maximum, max(self.burst, needed))

    def succeeded(self, sent_at: float, now: float, in_flight: int) -> None:
        """Record an answer at `now` to a call sent at `sent_at`; `in_flight` includes that call.

        A level that is not used does not grow.
        """
        took = max(0.0, now - sent_at)
        self.latency_s += (_SMOOTHING if self.latency_s else 1.0) * (took - self.latency_s)
        if sent_at < self._cut_at or 2 * in_flight < self._level:
            return
        step = 1.0 if self._slow_start else 1.0 / self._level
        self._level = min(float(self.maximum), self._level + step)

    def failed(self, sent_at: float, now: float) -> bool:
        """Record the failure of a call sent at `sent_at`; return whether the level was cut."""
        self._cut_at = min(self._cut_at, now)
        if sent_at < self._cut_at:
            return False
        self._slow_start = False
        self._cut_at = now
        self._level = max(1.0, self._level * CUT)
        return True
