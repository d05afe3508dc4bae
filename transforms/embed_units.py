"""The stage that turns slices of the plan into vectors on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import apache_beam as beam

from schemas.job import JobConfig
from schemas.units import PlanSlice, UnitRecord
from transforms import metrics

if TYPE_CHECKING:
    from transforms.engine.engine import Engine


class EmbedUnits(beam.PTransform):
    """Slices of the plan in, records of committed units out.

    Vectors never are elements: they go from the call to the part file inside one `process`.
    """

    def __init__(self, job: JobConfig) -> None:
        super().__init__()
        self.job = job

    def expand(self, slices: beam.PCollection[PlanSlice]) -> beam.PCollection[UnitRecord]:
        """Shuffles the slices over the workers, and works them off."""
        return (
            slices
            | "SpreadSlices" >> beam.Reshuffle()
            | "EmbedSlice" >> beam.ParDo(EmbedUnitsFn(self.job))
        )


class EmbedUnitsFn(beam.DoFn):
    """Works slices off with the one engine of its process; plain twin: engine.slices.embed_slice.

    Holds no key: `setup` finds it on the worker.
    """

    def __init__(self, job: JobConfig) -> None:
        self._job = job
        self._engine: Engine | None = None
        self._calls = metrics.CallCounters()

    def setup(self) -> None:
        """Joins the engine of this process, or starts it."""
        from transforms.engine.engine import engine_for

        self._engine = engine_for(self._job)

    def process(self, plan_slice: PlanSlice) -> Iterator[UnitRecord]:
        """Yields the record of each unit of the slice as it is committed."""
        from transforms.engine.slices import embed_slice

        assert self._engine is not None
        for record in embed_slice(self._engine, plan_slice):
            self._count(record)
            yield record
        self._count_calls()

    def teardown(self) -> None:
        """Leaves the engine; the last one to leave closes it."""
        from transforms.engine.engine import release

        if self._engine is not None:
            release(self._engine)
            self._engine = None

    def _count(self, record: UnitRecord) -> None:
        metrics.counter(metrics.UNITS_DONE).inc()
        metrics.counter(metrics.ROWS_IN).inc(record.unit.rows)
        metrics.counter(metrics.ROWS_OUT).inc(record.embedded)
        metrics.counter(metrics.ROWS_DEAD).inc(record.dead + record.skipped)
        for name, value in dataclasses.asdict(record.counts).items():
            metrics.counter(name).inc(value)
        for code, rows in record.codes:
            metrics.counter(metrics.DEAD_PREFIX + code).inc(rows)
        self._count_calls()

    def _count_calls(self) -> None:
        assert self._engine is not None
        self._calls.add(self._engine.take_counts())
