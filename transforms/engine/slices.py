"""A slice of the plan: its units read, embedded and committed, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from schemas.units import FileUnits, PlanSlice, UnitRecord
from transforms.core import ranges
from transforms.engine.engine import Engine
from transforms.engine.flight import Flight, bytes_of
from transforms.engine.prepare import PreparedUnit
from transforms.engine.prepared_units import prepared_units
from transforms.storage.dataset import State

Covered = Mapping[str, Sequence[ranges.Run]]
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
        engine.worker.spill.look_for_shared()
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


def still_due(file_units: FileUnits, state: State, covered: Covered) -> FileUnits:
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
