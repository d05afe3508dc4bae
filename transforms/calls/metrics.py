"""The names of the job's counters. The namespace is the stage; units of measure go last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apache_beam.metrics.metric import Metrics

NAMESPACE = "EmbedUnits"
ROWS_NAMESPACE = "EmbedRows"
BATCH_NAMESPACE = "BatchJobs"

UNITS_DONE = "units_done"
ROWS_IN = "rows_in"
ROWS_OUT = "rows_out"
ROWS_DEAD = "rows_dead"
CALLS_SENT = "calls_sent"
CALLS_REFUSED = "calls_refused"
THROTTLED_MS = "throttled_ms"
FILES_DONE = "files_done"
RESULTS_DONE = "results_done"
DEAD_PREFIX = "dead_"
"""The prefix of a dead letter's code: rows that failed for that reason."""

# Also counted: the fields of schemas.units.CallCounts (`calls`, `retried`, `texts`, `tokens`,
# `repeated`), and those of calls.caller.CallStats.


def counter(name: str, namespace: str = NAMESPACE) -> Metrics.DelegatingCounter:
    """Return the counter of that name."""
    from apache_beam.metrics.metric import Metrics

    return Metrics.counter(namespace, name)


class CallCounters:
    """Counts what a process has sent. Use it in `process` or `finish_bundle`, or counts are lost.

    Args:
        namespace: the stage.
    """

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self._namespace = namespace
        self._throttled_ms = 0

    def add(self, counts: Mapping[str, int]) -> None:
        """Add the counts since the last time, by the names of the counters."""
        for name, value in counts.items():
            counter(name, self._namespace).inc(value)
        self._signal_throttled(counts[THROTTLED_MS])

    def _signal_throttled(self, throttled_ms: int) -> None:
        """Report the time to the runner, which then adds no workers while the quota is full."""
        from apache_beam.io.components.adaptive_throttler import ThrottlingSignaler

        self._throttled_ms += throttled_ms
        seconds, self._throttled_ms = divmod(self._throttled_ms, 1000)
        if seconds:
            ThrottlingSignaler(self._namespace).signal_throttled(seconds)
