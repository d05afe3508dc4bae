"""Pieces of work that are under way, bounded by the bytes that they hold."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Generic, TypeVar

from schemas.errors import BulkEmbedError
from schemas.stop import StopReason
from transforms.core.packing import TextItem
from transforms.engine.engine import Engine

BYTES_IN_FLIGHT = 192 * 1024 * 1024
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
    """Work on the engine's loop; its results come in the order in which they are done."""

    engine: Engine
    bytes_of: dict[concurrent.futures.Future[Result | None], int] = dataclasses.field(
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

    def start(self, work: Coroutine[Any, Any, Result | None], held_bytes: int) -> None:
        """Sends a piece of work on its way."""
        self.bytes_of[self.engine.loop.submit(work)] = held_bytes

    def make_room(self, held_bytes: int) -> Iterator[Result]:
        """Waits until so many bytes fit; one piece always does.  Yields what was done meanwhile."""
        while self.bytes_of:
            if sum(self.bytes_of.values()) + held_bytes <= BYTES_IN_FLIGHT:
                return
            yield from self._land_some()

    def land_all(self) -> Iterator[Result]:
        """Waits for all.

        Raises:
            Exception: the first error that is not of our own, once all have landed.
        """
        while self.bytes_of:
            yield from self._land_some()
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

    def _land_some(self) -> Iterator[Result]:
        done, _ = concurrent.futures.wait(
            self.bytes_of,
            timeout=NOTES_EVERY_S,
            return_when=concurrent.futures.FIRST_COMPLETED,
        )
        self.must_end()  # Work may land often for long: the last units are all under way.
        for future in done:
            del self.bytes_of[future]
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
