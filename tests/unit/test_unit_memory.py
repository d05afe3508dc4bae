from __future__ import annotations

import tracemalloc

import pytest
from support.jobs import a_job, prepared

from bulkembed.schemas.job import CallSettings
from bulkembed.transforms.core.packing import CallLimits, pack
from bulkembed.transforms.units.engine import MAX_MEMORY_BYTES
from bulkembed.transforms.units.outcome import UnitOutcome
from bulkembed.transforms.units.slices import memory_of


@pytest.mark.parametrize("repeats", [1, 2, 2000], ids=["none", "twice", "all"])
def test_a_unit_takes_less_memory_than_is_reserved_for_it(repeats: int) -> None:
    texts = [f"text number {n // repeats}" for n in range(2000)]
    job = a_job()
    prepared(texts[:1])  # What is made once is not the unit's.
    tracemalloc.start()
    try:
        unit = prepared(texts)
        outcome, calls = UnitOutcome(unit, job), pack(unit.items, CallLimits())
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome.finish() is None
    assert sum(map(len, calls)) == len(unit.items)
    assert 0 < held < memory_of(1, unit.items, len(texts))


@pytest.mark.parametrize(("dim", "units"), [(8, 26), (128, 26), (768, 18), (3072, 5)])
def test_units_in_memory_fill_all_requests_and_no_more_are_read(dim: int, units: int) -> None:
    """With short vectors 70 units fit, and their texts took 200 MB that a run never gave back."""
    texts = [f"a short text number {n:010d}" for n in range(2500)]
    unit = prepared(texts)
    assert MAX_MEMORY_BYTES // memory_of(dim, unit.items, len(texts)) == units
    assert units * len(texts) > 2 * CallSettings().concurrency * CallLimits().texts
