"""The job's counters, by name: namespace is the stage, units of measure go last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apache_beam.metrics.metric import Metrics

NAMESPACE = "EmbedUnits"

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


def counter(name: str) -> Metrics.DelegatingCounter:
    """The counter of that name."""
    from apache_beam.metrics.metric import Metrics

    return Metrics.counter(NAMESPACE, name)
