"""A slice of the plan: its units read, embedded and committed, a few at a time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from bulkembed.schemas.errors import BulkEmbedError, OutputTaken
from bulkembed.schemas.models import largest_dim
from bulkembed.schemas.stop import StopReason
from bulkembed.schemas.units import CallCounts, FileUnits, PlanSlice, SharedSlice, UnitRecord
from bulkembed.transforms.core import ranges
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.dataset import worker_notes
from bulkembed.transforms.dataset.kept_answers import AnswerWriter, shared_writer
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.units.contents import DistinctContents
from bulkembed.transforms.units.engine import Engine
from bulkembed.transforms.units.prepare import PreparedUnit, prepared_units
from bulkembed.transforms.units.shared_texts import read_shared

COPIES = 1.1
"""A unit's vectors stand in memory as one matrix; a page of Parquet at a time is made of it."""
ROW_BYTES = 1000
"""What a row takes besides its text and its vector: hash, features, its place in a call."""
NOTES_EVERY_S = 1.0

Result = TypeVar("Result")


@dataclasses.dataclass(slots=True)
class Flight(Generic[Result]):
    """The work of one slice on the engine's loop; its results come as they are done.

    All slices of a process share the bytes that the engine lets them hold.
    """

    engine: Engine
    under_way: set[concurrent.futures.Future[Result | None]] = dataclasses.field(
        default_factory=set
    )
    looked_at: float = 0.0
    failure: Exception | None = None
    """The first error that is not of our own."""
    _room: int = 0
    """Bytes that `make_room` took for the next piece."""

    def failed(self, error: Exception) -> None:
        """Ends the run for an error; what flies may land."""
        if isinstance(error, OutputTaken):
            return self.engine.stop.set(StopReason.TAKEN_OVER, error.message)
        if isinstance(error, BulkEmbedError):
            return self.engine.stop.set(StopReason.BROKEN, error.message)
        self.failure = self.failure or error
        return self.engine.stop.set(StopReason.BROKEN, f"please report this: {error!r}")

    def make_room(self, held_bytes: int) -> Iterator[Result]:
        """Wait until so many bytes fit, or the run is to end; yield what was done meanwhile."""
        in_flight = self.engine.in_flight
        place = in_flight.queue()
        try:
            while not in_flight.take(place, held_bytes, NOTES_EVERY_S):
                yield from self._land_some(0.0)
                if self.must_end():
                    return
            self._room = held_bytes
        finally:
            in_flight.leave(place)

    def start(self, work: Coroutine[Any, Any, Result | None]) -> None:
        """Start a piece of work that there is room for; it gives the room back when it is done."""
        held_bytes, self._room = self._room, 0
        future = self.engine.loop.submit(work)
        self.under_way.add(future)
        future.add_done_callback(lambda _: self.engine.in_flight.give_back(held_bytes))

    def land_all(self) -> Iterator[Result]:
        """Waits for all.

        Raises:
            Exception: the first error that is not of our own, once all have landed.
        """
        self.engine.in_flight.give_back(self._room)
        self._room = 0
        while self.under_way:
            yield from self._land_some(NOTES_EVERY_S)
        if self.engine.stop.is_set():
            self.engine.leave_notes()
        if self.failure is not None:
            raise self.failure

    def must_end(self) -> bool:
        """Whether the run is to end, here or by a note of another process."""
        now = time.monotonic()
        if now - self.looked_at >= NOTES_EVERY_S:
            self.looked_at = now
            self.engine.look_for_notes()
        return self.engine.stop.is_set()

    def _land_some(self, timeout_s: float) -> Iterator[Result]:
        done, _ = concurrent.futures.wait(
            self.under_way,
            timeout=timeout_s,
            return_when=concurrent.futures.FIRST_COMPLETED,
        )
        self.must_end()  # Work may land often for long: the last units are all under way.
        for future in done:
            self.under_way.remove(future)
            try:
                result = future.result()
            except Exception as error:
                self.failed(error)
                continue
            if result is not None:
                yield result


def bytes_of(dim: int | None, items: Sequence[Content], rows: int) -> int:
    """What texts, their vectors and the rows that they belong to take while they are under way."""
    texts = sum(item.body_bytes for item in items)
    vectors = int(len(items) * (dim or largest_dim()) * 4 * COPIES)
    return vectors + 2 * texts + rows * ROW_BYTES


def embed_shared(engine: Engine, shared: SharedSlice) -> Iterator[CallCounts]:
    """Works a slice off; yields what its calls came to, some texts at a time.

    Ends early, and in good order, as `slices.embed_slice` does: what is not there then is sent by
    the units that need it.

    Raises:
        Exception: an error that is not of our own, once all calls have landed.
    """
    flight: Flight[CallCounts] = Flight(engine)
    job = engine.job
    kept = shared_writer(engine.dataset, job, shared.name)
    try:
        for number, texts in enumerate(
            read_shared(shared.files, job.columns, job.embedding, engine.estimator, engine.readable)
        ):
            held_bytes = bytes_of(job.embedding.out_dim, texts.items, len(texts.items))
            yield from flight.make_room(held_bytes)
            if flight.must_end():
                break
            name = f"{job.run_id}-{shared.name}-{number:06d}"
            flight.start(_embed(engine, texts, kept, name))
    except Exception as error:
        flight.failed(error)
    try:
        yield from flight.land_all()
    finally:
        kept.close()


async def _embed(
    engine: Engine, texts: DistinctContents, kept: AnswerWriter, name: str
) -> CallCounts | None:
    counts = await engine.worker.embed_shared(texts, kept)
    if not counts.calls:
        return None
    await asyncio.to_thread(worker_notes.write_shared_counts, engine.dataset, name, counts)
    return counts


Covered = Mapping[str, Sequence[ranges.RowRange]]
MOST_TEXTS = 4000
"""In a unit whose texts are cut: their vectors are in memory until it is committed.  A row is not
parted, whatever it has."""


def embed_slice(engine: Engine, plan_slice: PlanSlice) -> Iterator[UnitRecord]:
    """Works a slice off; yields the record of each unit as it is committed.

    Ends early, and in good order, once the engine's stop flag is set.  An error of one unit sets
    it: what the other units have finished is committed.  A slice of a run that has lost its dataset
    is passed over.  Rows that are committed already are passed
    over: an engine that lost a worker hands its slice out again.

    Raises:
        Exception: an error that is not of our own, once all units have landed.
    """
    flight: Flight[UnitRecord] = Flight(engine)
    try:
        if flight.must_end():
            return (yield from flight.land_all())
        engine.worker.known.refresh()
        state = engine.dataset.state()
        covered = state.covered()
        for file_units in plan_slice.files:
            due = still_due(file_units, state, covered)
            for prepared in engine.readable(due.file, _prepared(engine, due)):
                held_bytes = _bytes_of(engine, prepared)
                yield from flight.make_room(held_bytes)
                if flight.must_end():
                    break
                flight.start(engine.worker.embed(prepared))
    except Exception as error:
        flight.failed(error)
    yield from flight.land_all()


def still_due(file_units: FileUnits, state: DatasetState, covered: Covered) -> FileUnits:
    """The rows of units that were not committed, or not anew, since the plan was made.

    Args:
        file_units: as they were planned.
        state: as it is now.
        covered: the rows that it says are done, by file key.
    """
    file, redo = file_units.file, file_units.redo
    if redo:
        done = {(record.unit, record.generation) for record in state.records}
        kept = [record for record in redo if (record.unit, record.generation + 1) not in done]
        return FileUnits(file, tuple(record.unit for record in kept), tuple(kept))
    left = ranges.subtract(file.rows, covered.get(file.key, ()))
    return FileUnits(
        file,
        tuple(
            unit.part(*run)
            for unit in file_units.units
            for run in ranges.common((unit.first_row, unit.rows), left)
        ),
    )


def _prepared(engine: Engine, file_units: FileUnits) -> Iterator[PreparedUnit]:
    if engine.stop.is_set():
        return
    job, dataset, estimator = engine.job, engine.dataset, engine.estimator
    for prepared in prepared_units(job, dataset, estimator, file_units, MOST_TEXTS):
        yield prepared
        if engine.stop.is_set():
            return


def _bytes_of(engine: Engine, prepared: PreparedUnit) -> int:
    rows = prepared.rows
    kept_bytes = int(rows.kept.nbytes)
    return bytes_of(engine.job.embedding.out_dim, prepared.items, rows.rows) + kept_bytes
