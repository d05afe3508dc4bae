"""The job's counters, as Beam's engines report them."""

from __future__ import annotations

import pytest
from apache_beam.metrics.execution import MetricKey, MetricResult
from apache_beam.metrics.metric import MetricName

from bulkembed.pipeline.runners.graph import sum_counters


def counter(committed: int | None, attempted: int | None, step: str = "Embed") -> MetricResult:
    return MetricResult(MetricKey(step, MetricName("EmbedUnits", "texts")), committed, attempted)


@pytest.mark.parametrize(
    ("committed", "attempted", "counted"),
    [
        pytest.param(3, 5, 3, id="both"),
        pytest.param(3, None, 3, id="committed-only"),
        pytest.param(None, 5, 5, id="attempted-only"),
        pytest.param(0, None, 0, id="nothing-committed"),
        pytest.param(None, 0, 0, id="nothing-attempted"),
    ],
)
def test_a_counter_is_what_was_committed_or_else_attempted(
    committed: int | None, attempted: int | None, counted: int
) -> None:
    assert sum_counters([counter(committed, attempted)]) == {"texts": counted}


def test_counters_of_several_steps_are_added() -> None:
    steps = [counter(3, None), counter(4, 4, "EmbedShared"), counter(0, None, "Gather")]
    assert sum_counters(steps) == {"texts": 7}
