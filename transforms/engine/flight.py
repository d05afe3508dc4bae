"""The pieces of work of one slice that are under way."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Generic, TypeVar

from schemas.errors import BulkEmbedError, OutputTaken
from schemas.stop import StopReason
from transforms.core.packing import TextItem
from transforms.engine.engine import Engine

COPIES = 1.1
"""A unit's vectors stand in memory as one matrix; a page of Parquet at a time is made of it."""
ROW_BYTES = 1000
"""What a row takes besides its text and its vector: hash, features, its place in a call."""
MOST_DIM = 3072
"""What is reckoned with where only the first answer tells the dim."""
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


def bytes_of(dim: int | None, items: Sequence[TextItem], rows: int) -> int:
    """What texts, their vectors and the rows that they belong to take while they are under way."""
    texts = sum(item.body_bytes for item in items)
    vectors = int(len(items) * (dim or MOST_DIM) * 4 * COPIES)
    return vectors + 2 * texts + rows * ROW_BYTES
