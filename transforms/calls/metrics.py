"""The job's counters, by name: namespace is the stage, units of measure go last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apache_beam.metrics.metric import Metrics

NAMESPACE = "EmbedUnits"
ROWS_NAMESPACE = "EmbedRows"

UNITS_DONE = "units_done"
ROWS_IN = "rows_in"
ROWS_OUT = "rows_out"
ROWS_DEAD = "rows_dead"
CALLS_SENT = "calls_sent"
CALLS_REFUSED = "calls_refused"
THROTTLED_MS = "throttled_ms"
DEAD_PREFIX = "dead_"
"""Before a dead letter's code: rows given up on for that reason."""

# Besides these: the fields of schemas.units.CallCounts (`calls`, `retried`, `texts`, `tokens`,
# `repeated`), and those of engine.attempts.CallStats.


def counter(name: str, namespace: str = NAMESPACE) -> Metrics.DelegatingCounter:
    """The counter of that name."""
    from apache_beam.metrics.metric import Metrics

    return Metrics.counter(namespace, name)


class CallCounters:
    """Counts what a process has sent; in `process` or `finish_bundle`, or it is lost.

    Args:
        namespace: the stage.
    """

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self._namespace = namespace
        self._throttled_ms = 0

    def add(self, counts: Mapping[str, int]) -> None:
        """Adds what was done since the last time, by the names of the counters."""
        for name, value in counts.items():
            counter(name, self._namespace).inc(value)
        self._signal_throttled(counts[THROTTLED_MS])

    def _signal_throttled(self, throttled_ms: int) -> None:
        """Tells the runner, which then does not add workers to a quota that is full."""
        from apache_beam.io.components.adaptive_throttler import ThrottlingSignaler

        self._throttled_ms += throttled_ms
        seconds, self._throttled_ms = divmod(self._throttled_ms, 1000)
        if seconds:
            ThrottlingSignaler(self._namespace).signal_throttled(seconds)
