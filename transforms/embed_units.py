"""The stage that embeds slices of the plan and writes the vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import apache_beam as beam

from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import CallCounts, GatherSlice, PlanSlice, SharedSlice, UnitRecord
from bulkembed.transforms.calls import metrics

if TYPE_CHECKING:
    from bulkembed.transforms.units.engine import Engine


class EmbedUnits(beam.PTransform):
    """Embed slices of the plan; emit the records of the committed units.

    Vectors are never elements of the pipeline. Each `process` writes those of its answers to part
    files.

    Args:
        job: the configuration of the workers.
        shared: texts that several units have. No unit starts before all of them are done.
        gathers: known vectors to gather. No unit starts before that is done.
    """

    def __init__(
        self,
        job: JobConfig,
        shared: Sequence[SharedSlice] = (),
        gathers: Sequence[GatherSlice] = (),
    ) -> None:
        super().__init__()
        self.job = job
        self.shared = list(shared)
        self.gathers = list(gathers)

    def expand(self, slices: beam.PCollection[PlanSlice]) -> beam.PCollection[UnitRecord]:
        """Distribute the slices over the workers, and embed them."""
        spread = slices | "SpreadSlices" >> beam.Reshuffle()
        units = EmbedUnitsFn(self.job)
        first = []
        if self.gathers:
            gathers = slices.pipeline | "Gathers" >> beam.Create(self.gathers, reshuffle=False)
            spread_gathers = gathers | "SpreadGathers" >> beam.Reshuffle()
            first.append(spread_gathers | "Gather" >> beam.ParDo(GatherFn(self.job)))
        if self.shared:
            shared = slices.pipeline | "Shared" >> beam.Create(self.shared, reshuffle=False)
            spread_shared = shared | "SpreadShared" >> beam.Reshuffle()
            first.append(spread_shared | "EmbedShared" >> beam.ParDo(EmbedSharedFn(self.job)))
        if not first:
            return spread | "EmbedSlice" >> beam.ParDo(units)
        before = first[0] if len(first) == 1 else first | "First" >> beam.Flatten()
        return spread | "EmbedSlice" >> beam.ParDo(units, beam.pvalue.AsIter(before))


class _EngineFn(beam.DoFn):
    """A DoFn with the engine of its process; `setup` reads the API key on the worker."""

    def __init__(self, job: JobConfig) -> None:
        self._job = job
        self._engine: Engine | None = None
        self._calls = metrics.CallCounters()

    def setup(self) -> None:
        """Join the engine of this process, or start it."""
        from bulkembed.transforms.units.engine import engine_for

        self._engine = engine_for(self._job)

    def teardown(self) -> None:
        """Leave the engine; the last user to leave closes it."""
        from bulkembed.transforms.units.engine import release

        if self._engine is not None:
            release(self._engine)
            self._engine = None

    def _end_slice(self) -> None:
        assert self._engine is not None
        self._count_calls()
        self._engine.note_spending()

    def _count_calls(self, counts: CallCounts | None = None) -> None:
        assert self._engine is not None
        self._calls.add(self._engine.take_counts())
        if counts is not None:
            for name, value in dataclasses.asdict(counts).items():
                metrics.counter(name).inc(value)


class EmbedSharedFn(_EngineFn):
    """Embeds texts that several units have, by `slices.embed_shared`."""

    def process(self, shared: SharedSlice) -> Iterator[CallCounts]:
        """Yield the counts of the calls, some texts at a time."""
        from bulkembed.transforms.units.slices import embed_shared

        assert self._engine is not None
        for counts in embed_shared(self._engine, shared):
            self._count_calls(counts)
            yield counts
        self._end_slice()


class GatherFn(_EngineFn):
    """Gathers known vectors for the units, by `gather.gather_rows`."""

    def process(self, gather: GatherSlice) -> Iterator[int]:
        """Yield how many rows were gathered from each row group."""
        from bulkembed.transforms.units.gather import gather_rows

        assert self._engine is not None
        yield from gather_rows(self._engine, gather)


class EmbedUnitsFn(_EngineFn):
    """Embeds slices, by `slices.embed_slice`."""

    def process(self, plan_slice: PlanSlice, after: Iterable[object] = ()) -> Iterator[UnitRecord]:
        """Yield the record of each unit of the slice when it is committed.

        Args:
            plan_slice: the units.
            after: a side input with the work that must be done before, so that Beam waits for it.
        """
        from bulkembed.transforms.units.slices import embed_slice

        assert self._engine is not None
        for record in embed_slice(self._engine, plan_slice):
            self._count(record)
            yield record
        self._end_slice()

    def _count(self, record: UnitRecord) -> None:
        metrics.counter(metrics.UNITS_DONE).inc()
        metrics.counter(metrics.ROWS_IN).inc(record.unit.rows)
        metrics.counter(metrics.ROWS_OUT).inc(record.embedded)
        metrics.counter(metrics.ROWS_DEAD).inc(record.dead + record.skipped)
        for code, rows in record.codes:
            metrics.counter(metrics.DEAD_PREFIX + code).inc(rows)
        self._count_calls(record.counts)
