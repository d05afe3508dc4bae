"""The memory of the units that a process works on at a time."""

from __future__ import annotations

import collections
import threading


class MemoryBudget:
    """The memory that the tasks of a process may use together. Safe for threads.

    A single task always fits if no other is running. First come, first served: small tasks do not
    overtake a large one.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._reserved = 0
        self._held = 0
        self._queue: collections.deque[object] = collections.deque()
        self._changed = threading.Condition()

    @property
    def reserved(self) -> int:
        """The bytes that are reserved now."""
        return self._reserved

    @property
    def held(self) -> int:
        """The bytes that are in memory for later tasks."""
        return self._held

    def enter_queue(self) -> object:
        """Return a place in the queue; `leave_queue` must be called once for each."""
        place = object()
        with self._changed:
            self._queue.append(place)
        return place

    def reserve(self, place: object, size: int, timeout_s: float) -> bool:
        """Reserve bytes once they fit and it is the turn of `place`; False after a time-out."""
        with self._changed:
            fits = self._changed.wait_for(lambda: self._is_next(place, size), timeout_s)
            if fits:
                self._reserved += size
            return fits

    def _is_next(self, place: object, size: int) -> bool:
        used = self._reserved + self._held
        fits = self._reserved == 0 or used + size <= self._max_bytes
        return self._queue[0] is place and fits

    def leave_queue(self, place: object) -> None:
        """Leave the queue."""
        with self._changed:
            self._queue.remove(place)
            self._changed.notify_all()

    def hold(self, change: int) -> None:
        """Change the bytes that are in memory for later tasks; they leave less room for others."""
        with self._changed:
            self._held += change
            self._changed.notify_all()

    def release(self, size: int) -> None:
        """Release bytes."""
        with self._changed:
            self._reserved -= size
            self._changed.notify_all()
