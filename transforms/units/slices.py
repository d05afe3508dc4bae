"""Embed a slice of the plan: read its units, embed and commit them, a few at a time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import itertools
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from bulkembed.schemas.errors import BulkEmbedError, OutputTaken
from bulkembed.schemas.models import largest_dim
from bulkembed.schemas.stop import StopReason
from bulkembed.schemas.units import CallCounts, FileUnits, PlanSlice, SharedSlice, UnitRecord
from bulkembed.transforms.calls.stopping import Stopping
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.ranges import RowRange, intersections, remaining_ranges
from bulkembed.transforms.dataset import worker_notes
from bulkembed.transforms.dataset.kept_answers import shared_writer
from bulkembed.transforms.dataset.picks_file import read_picks
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.units.distinct_contents import DistinctContents
from bulkembed.transforms.units.engine import Engine
from bulkembed.transforms.units.media_units import media_units
from bulkembed.transforms.units.prepare import PreparedUnit, prepared_units
from bulkembed.transforms.units.shared_media import read_shared_media
from bulkembed.transforms.units.shared_texts import read_shared
from bulkembed.transforms.units.slice_vectors import SliceVectors
from bulkembed.transforms.units.small_units import (
    FileRows,
    grouped_files,
    prepared_groups,
    read_units,
)

COPIES = 1.1
"""A unit's vectors are in memory once, as a matrix, plus one page of Parquet at a time."""
ROW_BYTES = 1000
"""Memory of a row besides its text and its vector: hash, features, its place in a request."""
MIN_ROW_BYTES = 3000
"""What a row counts at least, also with a short vector.  With more than 64,000 rows in memory no
request is fuller, but Python keeps the memory of their texts until the process ends."""
CHECK_EVERY_S = 1.0
MAX_TEXTS = 4000
"""The maximum passages of a unit whose texts are cut: its vectors are in memory until it is
committed. A row is never split, however many passages it has."""

Covered = Mapping[str, Sequence[RowRange]]
Result = TypeVar("Result")


def embed_slice(engine: Engine, plan_slice: PlanSlice) -> Iterator[UnitRecord]:
    """Embed a slice; yield the record of each unit as it is committed.

    It stops cleanly once the engine's stop flag is set: the finished rows of all units are
    committed. An error of one unit sets the flag. Rows that are committed already are skipped,
    because a runner that lost a worker hands its slice out again. If the run has lost its dataset,
    the whole slice is skipped.

    Raises:
        Exception: an unknown error, once all units have ended.
    """
    return itertools.chain.from_iterable(_embed_units(engine, plan_slice))


def _embed_units(engine: Engine, plan_slice: PlanSlice) -> Iterator[tuple[UnitRecord, ...]]:
    """Yield the records of the units that are committed together."""
    tasks: SliceTasks[tuple[UnitRecord, ...]] = SliceTasks(engine)
    try:
        if tasks.must_stop():
            return (yield from tasks.finish())
        engine.worker.known.refresh()
        known = _known_vectors(engine, plan_slice)
        with engine.expecting_texts():
            yield from _start_units(engine, plan_slice, tasks, known)
    except Exception as error:
        tasks.stop_run(error)
    yield from tasks.finish()


def _start_units(
    engine: Engine,
    plan_slice: PlanSlice,
    tasks: SliceTasks[tuple[UnitRecord, ...]],
    known: SliceVectors | None,
) -> Iterator[tuple[UnitRecord, ...]]:
    """Start the units of a slice, as memory allows; yield the records of those that have ended."""
    state = engine.dataset.state()
    covered = state.covered()
    for files in grouped_files(plan_slice.files, engine.job):
        remaining = [remaining_units(file, state, covered) for file in files]
        for prepared in _prepared(engine, remaining):
            in_memory = sum(map(known.memory_of, prepared.units)) if known is not None else 0
            yield from tasks.wait_for_memory(_memory_of_unit(engine, prepared) + in_memory)
            if tasks.must_stop():
                break
            own = None
            if known is not None:
                own = known.of_all(prepared.units)
                tasks.hold(known.waiting_bytes)
            tasks.start(engine.worker.embed(prepared, own))
            del own


def _known_vectors(engine: Engine, plan_slice: PlanSlice) -> SliceVectors | None:
    if plan_slice.known is None:
        return None
    return SliceVectors(engine.dataset, engine.job, plan_slice.known)


def remaining_units(file_units: FileUnits, state: DatasetState, covered: Covered) -> FileUnits:
    """Return the rows of units that were not committed, or not retried, since the plan was made.

    Args:
        file_units: the units of the plan.
        state: the current state of the dataset.
        covered: its committed rows, by file key.
    """
    file, retry_of = file_units.file, file_units.retry_of
    if retry_of:
        done = {(record.unit, record.generation) for record in state.records}
        kept = [record for record in retry_of if (record.unit, record.generation + 1) not in done]
        return FileUnits(file, tuple(record.unit for record in kept), tuple(kept))
    remaining = remaining_ranges(file.rows, covered.get(file.key, ()))
    return FileUnits(
        file,
        tuple(
            unit.part(*rows)
            for unit in file_units.units
            for rows in intersections((unit.first_row, unit.rows), remaining)
        ),
    )


def _prepared(engine: Engine, files: Sequence[FileUnits]) -> Iterator[PreparedUnit]:
    """Yield the units of a file, or the group of several small ones."""
    if len(files) > 1:
        yield from _prepared_groups(engine, [file for file in files if file.units])
        return
    (file,) = files
    for prepared in engine.skip_damage(file.file, _units_of_file(engine, file)):
        engine.check_partitions(prepared.unit, prepared.source_file, prepared.rows.kept)
        yield prepared
        if engine.stop.is_set():
            return


def _units_of_file(engine: Engine, file: FileUnits) -> Iterator[PreparedUnit]:
    if engine.stop.is_set():
        return iter(())
    job, dataset, estimator = engine.job, engine.dataset, engine.estimator
    if engine.fetch is not None:
        return media_units(job, dataset, estimator, file, engine.fetch, engine.versions)
    return prepared_units(job, dataset, estimator, file, MAX_TEXTS)


def _prepared_groups(engine: Engine, files: Sequence[FileUnits]) -> Iterator[PreparedUnit]:
    def read(file: FileUnits) -> FileRows:
        if engine.stop.is_set():
            return []
        found = list(engine.skip_damage(file.file, read_units(engine.job, file)))
        for unit, batch in found:
            engine.check_partitions(unit, file.file.name, batch.kept)
        return found

    groups = prepared_groups(engine.job, engine.estimator, files, read, MAX_TEXTS)
    for prepared in groups:
        yield prepared
        if engine.stop.is_set():
            return


def _memory_of_unit(engine: Engine, prepared: PreparedUnit) -> int:
    rows = prepared.rows
    kept_bytes = int(rows.kept.nbytes)
    return memory_of(engine.job.embedding.out_dim, prepared.items, rows.rows) + kept_bytes


def memory_of(dim: int | None, items: Sequence[Content], rows: int) -> int:
    """Return the bytes of memory to reserve for texts, their vectors and their rows in progress."""
    texts = sum(item.held_bytes for item in items)
    vectors = int(len(items) * (dim or largest_dim()) * 4 * COPIES)
    return max(vectors + 2 * texts + rows * ROW_BYTES, rows * MIN_ROW_BYTES)


def embed_shared(engine: Engine, shared: SharedSlice) -> Iterator[CallCounts]:
    """Embed texts that units share; yield the counts of their requests, some texts at a time.

    It stops cleanly, as `embed_slice` does. The units send the texts that are still missing.

    Raises:
        Exception: an unknown error, once all requests have ended.
    """
    tasks: SliceTasks[CallCounts] = SliceTasks(engine)
    job = engine.job
    try:
        engine.worker.known.refresh()  # An earlier attempt of this slice may have kept answers.
        picks = read_picks(engine.dataset, job.run_id, shared)
        if engine.fetch is not None:
            read = read_shared_media(picks, job, engine.estimator, engine.fetch, engine.skip_damage)
        else:
            read = read_shared(
                picks, job.columns, job.embedding, engine.estimator, engine.skip_damage
            )
        with engine.expecting_texts():
            for number, texts in enumerate(read):
                memory = memory_of(job.embedding.out_dim, texts.items, len(texts.items))
                yield from tasks.wait_for_memory(memory)
                if tasks.must_stop():
                    break
                name = f"{shared.name}-{number:06d}"
                tasks.start(_embed_texts(engine, texts, name))
    except Exception as error:
        tasks.stop_run(error)
    yield from tasks.finish()


async def _embed_texts(engine: Engine, texts: DistinctContents, name: str) -> CallCounts | None:
    dataset, job = engine.dataset, engine.job
    kept = shared_writer(dataset, job, name)
    try:
        counts = await engine.worker.embed_shared(texts, kept)
    finally:
        await asyncio.to_thread(kept.close)
    if not counts.texts:
        return None
    note = f"{job.run_id}-{name}"
    await asyncio.to_thread(worker_notes.write_shared_counts, dataset, note, counts)
    return counts


@dataclasses.dataclass(slots=True)
class SliceTasks(Generic[Result]):
    """The tasks of one slice on the engine's loop; results come as tasks end.

    All slices of a process share the engine's memory budget.
    """

    engine: Engine
    running: set[concurrent.futures.Future[Result | None]] = dataclasses.field(default_factory=set)
    checked_at: float = 0.0
    failure: Exception | None = None
    """The first unknown error."""
    _reserved: int = 0
    """The bytes that `wait_for_memory` reserved for the next task."""
    _held: int = 0
    """The bytes that are in memory for later tasks."""

    def wait_for_memory(self, size: int) -> Iterator[Result]:
        """Wait until some bytes fit the budget, or the run must stop; yield results meanwhile.

        It first yields what has ended, so that no ended task is kept.
        """
        yield from self._results(0.0)
        memory = self.engine.memory
        place = memory.enter_queue()
        try:
            while not memory.reserve(place, size, CHECK_EVERY_S):
                yield from self._results(0.0)
                if self.must_stop():
                    return
            self._reserved = size
        finally:
            memory.leave_queue(place)

    def hold(self, size: int) -> None:
        """Say how many bytes are in memory for later tasks, until `finish`."""
        self.engine.memory.hold(size - self._held)
        self._held = size

    def start(self, work: Coroutine[Any, Any, Result | None]) -> None:
        """Start a task with the memory that was reserved; its end releases it."""
        size, self._reserved = self._reserved, 0
        future = self.engine.loop.submit(work)
        self.running.add(future)
        future.add_done_callback(lambda _: self.engine.memory.release(size))

    def finish(self) -> Iterator[Result]:
        """Wait for all tasks.

        Raises:
            Exception: the first unknown error, once all tasks have ended.
        """
        self.engine.memory.release(self._reserved)
        self._reserved = 0
        self.hold(0)
        while self.running:
            yield from self._results(CHECK_EVERY_S)
        if self.engine.stop.is_set():
            self.engine.flush_notes()
        if self.failure is not None:
            raise self.failure

    def must_stop(self) -> bool:
        """Return whether the run must stop, for this process or by a note of another."""
        now = time.monotonic()
        if now - self.checked_at >= CHECK_EVERY_S:
            self.checked_at = now
            self.engine.check_notes()
        return self.engine.stop.is_set()

    def stop_run(self, error: Exception) -> None:
        """Stop the run because of an error; running tasks may finish."""
        if isinstance(error, Stopping):
            return None  # The run stops already.
        if isinstance(error, OutputTaken):
            return self.engine.stop.set(StopReason.TAKEN_OVER, error.message)
        if isinstance(error, BulkEmbedError):
            return self.engine.stop.set(StopReason.BROKEN, error.message)
        self.failure = self.failure or error
        return self.engine.stop.set(StopReason.BROKEN, f"please report this: {error!r}")

    def _results(self, timeout_s: float) -> Iterator[Result]:
        done, _ = concurrent.futures.wait(
            self.running,
            timeout=timeout_s,
            return_when=concurrent.futures.FIRST_COMPLETED,
        )
        self.must_stop()  # The last tasks may end one after the other for a long time.
        for future in done:
            self.running.remove(future)
            try:
                result = future.result()
            except Exception as error:
                self.stop_run(error)
                continue
            if result is not None:
                yield result
