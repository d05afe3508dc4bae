"""A slice of texts that units share, worked off before the units are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from schemas.units import CallCounts, SharedSlice
from transforms.engine.engine import Engine
from transforms.engine.flight import Flight, bytes_of
from transforms.engine.shared_texts import read_shared
from transforms.engine.text_items import SentTexts
from transforms.storage import shared_counts
from transforms.storage.spill import shared_writer
from transforms.storage.spill_file import SpillWriter


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
    engine: Engine, texts: SentTexts, kept: SpillWriter, name: str
) -> CallCounts | None:
    counts = await engine.worker.embed_shared(texts, kept)
    if not counts.calls:
        return None
    await asyncio.to_thread(shared_counts.write, engine.dataset, name, counts)
    return counts
