"""A flag that ends the work of a process early, for threads and coroutines."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from bulkembed.schemas.errors import BulkEmbedError
from bulkembed.schemas.stop import Stop, StopReason


class Stopping(BulkEmbedError):
    """Raised where a call would have to wait although the run must end; users never see it."""

    def __init__(self, message: str = "the run must end") -> None:
        super().__init__(message)


class StopFlag:
    """A flag that can be set several times; the most serious reason counts.

    Args:
        on_set: called with each new reason, in the thread that sets it.
    """

    def __init__(self, on_set: Callable[[Stop], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._stop: Stop | None = None
        self._on_set = on_set
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    @property
    def stop(self) -> Stop | None:
        """Why the work must end; None if it need not."""
        return self._stop

    def is_set(self) -> bool:
        """Return whether the work must end."""
        return self._stop is not None

    def set(self, reason: StopReason, message: str) -> None:
        """End the work; may be called from any thread."""
        self.set_from(Stop(reason, message, time.time()))

    def set_from(self, new: Stop) -> None:
        """End the work for a reason that another process gave."""
        with self._lock:
            is_new = self._stop is None or new.rank < self._stop.rank
            if is_new:
                self._stop = new
            waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            loop.call_soon_threadsafe(event.set)
        if is_new and self._on_set is not None:
            self._on_set(new)

    async def wait(self) -> None:
        """Return when the flag is set."""
        event = asyncio.Event()
        with self._lock:
            if self._stop is not None:
                return
            entry = (asyncio.get_running_loop(), event)
            self._waiting.append(entry)
        try:
            await event.wait()
        finally:
            with self._lock:
                if entry in self._waiting:
                    self._waiting.remove(entry)

    async def sleep(self, seconds: float) -> None:
        """Sleep.

        Raises:
            Stopping: as soon as the flag is set.
        """
        try:
            await asyncio.wait_for(self.wait(), seconds)
        except TimeoutError:
            return
        raise Stopping
