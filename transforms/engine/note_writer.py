"""Notes to the other workers of a run, written by a thread of their own."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable

from schemas.stop import Stop


class NoteWriter:
    """Writes notes without blocking the caller.

    A run is often ended on the event loop, and a store may take seconds to write: all calls in
    flight would stall meanwhile.

    Args:
        leave: writes one note; must not raise.
    """

    def __init__(self, leave: Callable[[Stop], None]) -> None:
        self._leave = leave
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "bulkembed-notes")

    def write(self, stop: Stop) -> None:
        """Write a note soon; after `close` nobody reads one any more."""
        with contextlib.suppress(RuntimeError):
            self._thread.submit(self._leave, stop)

    def flush(self) -> None:
        """Return once all notes are written; not to be called on an event loop."""
        with contextlib.suppress(RuntimeError):
            self._thread.submit(bool).result()

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self._thread.shutdown(wait=True)
