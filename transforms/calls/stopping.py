"""One flag that ends the work of a process early, seen by threads and by coroutines."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from bulkembed.schemas.errors import BulkEmbedError
from bulkembed.schemas.stop import Stop, StopReason


class Stopping(BulkEmbedError):
    """Raised where a call would have to wait although the run is to end; never shown."""


class StopFlag:
    """Set once or more; the most serious reason holds.

    `on_set` is called with each new reason, in the thread that gives it.
    """

    def __init__(self, on_set: Callable[[Stop], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._stop: Stop | None = None
        self._on_set = on_set
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    @property
    def stop(self) -> Stop | None:
        """Why the work is to end; None while it goes on."""
        return self._stop

    def is_set(self) -> bool:
        """Whether the work is to end."""
        return self._stop is not None

    def set(self, reason: StopReason, message: str) -> None:
        """Asks for the end; may be called from any thread, and more than once."""
        self.take_over(Stop(reason, message, time.time()))

    def take_over(self, new: Stop) -> None:
        """Asks for the end for a reason that somebody else gave."""
        with self._lock:
            known = self._stop is not None and self._stop.rank <= new.rank
            if not known:
                self._stop = new
            waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            loop.call_soon_threadsafe(event.set)
        if not known and self._on_set is not None:
            self._on_set(new)

    async def wait(self) -> None:
        """Returns when the flag is set."""
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
        """Sleeps, or raises Stopping as soon as the flag is set."""
        try:
            await asyncio.wait_for(self.wait(), seconds)
        except TimeoutError:
            return
        raise Stopping("the run is to end")
