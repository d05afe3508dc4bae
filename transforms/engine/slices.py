"""A slice of the plan: its units read, embedded and committed, a few at a time."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from collections.abc import Iterator, Sequence

from schemas.errors import BulkEmbedError
from schemas.stop import StopReason
from schemas.units import FileUnits, PlanSlice, UnitRecord
from transforms.engine.engine import Engine
from transforms.engine.prepare import PreparedUnit, Redo, prepare
from transforms.storage.filesystems import open_found
from transforms.storage.row_reader import read_runs

BYTES_IN_FLIGHT = 192 * 1024 * 1024
COPIES = 1.1
"""A unit's vectors stand in memory as one matrix; a page of Parquet at a time is made of it."""
NOTES_EVERY_S = 1.0


def embed_slice(engine: Engine, plan_slice: PlanSlice) -> Iterator[UnitRecord]:
    """Works a slice off; yields the record of each unit as it is committed.

    Ends early, and in good order, once the engine's stop flag is set.  An error of one unit sets
    it: what the other units have finished is committed.  A unit that is committed already is passed
    over: an engine that lost a worker hands its slice out again.

    Raises:
        Exception: an error that is not of our own, once all units have landed.
    """
    flight = _Flight(engine)
    try:
        records = engine.dataset.state().records
        done = {(record.unit, record.generation) for record in records}
        for file_units in plan_slice.files:
            for prepared in _prepared(engine, file_units.without(done)):
                yield from flight.make_room(prepared)
                if flight.must_end():
                    break
                flight.start(prepared)
    except Exception as error:
        flight.failed(error)
    yield from flight.land_all()
    if flight.failure is not None:
        raise flight.failure


def _prepared(engine: Engine, file_units: FileUnits) -> Iterator[PreparedUnit]:
    job = engine.job
    file = file_units.file
    if engine.stop.is_set():
        return
    filesystem = open_found(file.found)
    runs = [(unit.first_row, unit.rows) for unit in file_units.units]
    rows_read = read_runs(filesystem, file, job.columns, job.row_schema, runs)
    redo: Sequence[UnitRecord | None] = file_units.redo or [None] * len(runs)
    for unit, record, rows in zip(file_units.units, redo, rows_read, strict=True):
        yield prepare(
            rows,
            unit,
            file.name,
            job.embedding,
            engine.estimator,
            job.blank_text,
            _redo(engine, record) if record is not None else None,
        )
        if engine.stop.is_set():
            return


def _redo(engine: Engine, record: UnitRecord) -> Redo:
    whole = engine.dataset.whole_record(record)
    return Redo(whole, engine.dataset.redo_offsets(whole))


@dataclasses.dataclass(slots=True)
class _Flight:
    """The units that are under way, bounded by the bytes that they hold."""

    engine: Engine
    bytes_of: dict[concurrent.futures.Future[UnitRecord | None], int] = dataclasses.field(
        default_factory=dict
    )
    looked_at: float = 0.0
    failure: Exception | None = None
    """The first error that is not of our own."""

    def failed(self, error: Exception) -> None:
        """Ends the run for an error; what flies may land."""
        if isinstance(error, BulkEmbedError):
            return self.engine.stop.set(StopReason.BROKEN, error.message)
        self.failure = self.failure or error
        return self.engine.stop.set(StopReason.BROKEN, f"please report this: {error!r}")

    def start(self, prepared: PreparedUnit) -> None:
        """Sends a unit on its way."""
        future = self.engine.loop.submit(self.engine.worker.embed(prepared))
        self.bytes_of[future] = self._bytes(prepared)

    def make_room(self, prepared: PreparedUnit) -> Iterator[UnitRecord]:
        """Waits until a unit fits; one always does.  Yields what was committed meanwhile."""
        while self.bytes_of:
            if sum(self.bytes_of.values()) + self._bytes(prepared) <= BYTES_IN_FLIGHT:
                return
            yield from self._land_some()

    def land_all(self) -> Iterator[UnitRecord]:
        """Waits for all units."""
        while self.bytes_of:
            yield from self._land_some()

    def must_end(self) -> bool:
        """Whether the run is to end, here or by a note of another process."""
        now = time.monotonic()
        if now - self.looked_at >= NOTES_EVERY_S:
            self.looked_at = now
            self.engine.look_for_notes()
        return self.engine.stop.is_set()

    def _land_some(self) -> Iterator[UnitRecord]:
        done, _ = concurrent.futures.wait(
            self.bytes_of,
            timeout=NOTES_EVERY_S,
            return_when=concurrent.futures.FIRST_COMPLETED,
        )
        if not done:
            self.must_end()
        for future in done:
            del self.bytes_of[future]
            try:
                record = future.result()
            except Exception as error:
                self.failed(error)
                continue
            if record is not None:
                yield record

    def _bytes(self, prepared: PreparedUnit) -> int:
        dim = self.engine.job.embedding.out_dim or 3072
        texts = sum(item.body_bytes for item in prepared.items)
        vectors = int(len(prepared.items) * dim * 4 * COPIES)
        return vectors + 2 * texts + int(prepared.rows.kept.nbytes)
