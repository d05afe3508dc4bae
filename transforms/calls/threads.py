"""What the threads of a process share: an event loop in the background, and pooled objects."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
CLOSE_TIMEOUT_S = 30.0


class LoopThread:
    """An event loop in a background thread, for threads that cannot run coroutines."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine; any thread can wait for the returned future."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine."""
        return self.submit(work).result()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call a plain function on the loop; do nothing on a closed loop."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def call_later(self, delay_s: float, function: Callable[[], None]) -> None:
        """Call a plain function on the loop after a delay; do nothing on a closed loop."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.call_later, delay_s, function)

    def close(self) -> None:
        """Cancel the coroutines that still run, and end the thread."""
        if self._loop.is_closed():
            return
        self.submit(_cancel_others()).result(CLOSE_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT_S)
        self._loop.close()


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()


class Closable(Protocol):
    """An object that a pool can hold."""

    def close(self) -> None:
        """Release its resources; nobody uses it any more."""


C = TypeVar("C", bound=Closable)


@dataclasses.dataclass(slots=True)
class _Entry(Generic[C]):
    key: Hashable
    value: C
    users: int


class Pool(Generic[C]):
    """Objects by key: made for the first user, closed by the last one. Thread-safe.

    Beam makes a DoFn for each thread. An object that a DoFn owned would exist once per thread, and
    two threads would have twice the calls in flight.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry[C]] = []

    def acquire(
        self, key: Hashable, make: Callable[[], C], usable: Callable[[C], bool] = lambda _: True
    ) -> C:
        """Return the usable object of that key; make one if there is none.

        Each user must `release` it once. Raises what `make` raises.
        """
        with self._lock:
            for entry in self._entries:
                if entry.key == key and usable(entry.value):
                    entry.users += 1
                    return entry.value
            value = make()
            self._entries.append(_Entry(key, value, 1))
            return value

    def release(self, value: C) -> None:
        """Return an object; the last user closes it."""
        with self._lock:
            entry = next((one for one in self._entries if one.value is value), None)
            if entry is None:
                return
            entry.users -= 1
            if entry.users > 0:
                return
            self._entries.remove(entry)
        value.close()

    def in_use(self) -> list[C]:
        """Return all objects that somebody uses now."""
        with self._lock:
            return [entry.value for entry in self._entries]
