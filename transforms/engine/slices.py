"""A slice of the plan: its units read, embedded and committed, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.units import FileUnits, PlanSlice, UnitRecord
from transforms.engine.engine import Engine
from transforms.engine.flight import Flight, bytes_of
from transforms.engine.prepare import PreparedUnit
from transforms.engine.prepared_units import prepared_units


def embed_slice(engine: Engine, plan_slice: PlanSlice) -> Iterator[UnitRecord]:
    """Works a slice off; yields the record of each unit as it is committed.

    Ends early, and in good order, once the engine's stop flag is set.  An error of one unit sets
    it: what the other units have finished is committed.  A unit that is committed already is passed
    over: an engine that lost a worker hands its slice out again.

    Raises:
        Exception: an error that is not of our own, once all units have landed.
    """
    flight: Flight[UnitRecord] = Flight(engine)
    try:
        engine.worker.spill.look_for_shared()
        records = engine.dataset.state().records
        done = {(record.unit, record.generation) for record in records}
        for file_units in plan_slice.files:
            for prepared in _prepared(engine, file_units.without(done)):
                held_bytes = _bytes_of(engine, prepared)
                yield from flight.make_room(held_bytes)
                if flight.must_end():
                    break
                flight.start(engine.worker.embed(prepared), held_bytes)
    except Exception as error:
        flight.failed(error)
    yield from flight.land_all()


def _prepared(engine: Engine, file_units: FileUnits) -> Iterator[PreparedUnit]:
    if engine.stop.is_set():
        return
    for prepared in prepared_units(engine.job, engine.dataset, engine.estimator, file_units):
        yield prepared
        if engine.stop.is_set():
            return


def _bytes_of(engine: Engine, prepared: PreparedUnit) -> int:
    rows = prepared.rows
    kept_bytes = int(rows.kept.nbytes)
    return bytes_of(engine.job.embedding.out_dim, prepared.items, rows.rows) + kept_bytes
