"""Notes that the run must stop, written beside the event loop."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable

from bulkembed.schemas.stop import Stop


class NoteWriter:
    """Writes notes without blocking the caller.

    A run is often stopped on the event loop, and a store may take seconds to write; meanwhile all
    requests in flight would stall.

    Args:
        write: writes one note; must not raise.
    """

    def __init__(self, write: Callable[[Stop], None]) -> None:
        self._write = write
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "bulkembed-notes")

    def write(self, stop: Stop) -> None:
        """Write a note soon; after `close` notes are ignored, since nobody reads them."""
        with contextlib.suppress(RuntimeError):
            self._thread.submit(self._write, stop)

    def flush(self) -> None:
        """Return once all notes are written; must not be called on an event loop."""
        with contextlib.suppress(RuntimeError):
            self._thread.submit(bool).result()

    def close(self) -> None:
        """Write the remaining notes, and end the thread."""
        self._thread.shutdown(wait=True)
