"""The most bytes that the work in progress of a process may hold."""

from __future__ import annotations

import collections
import threading

BYTES_IN_FLIGHT = 192 * 1024 * 1024


class InFlight:
    """The bytes that work in progress holds in this process, with a bound.  Thread-safe.

    Work of one piece always fits where nothing else is under way.  First come, first served: a
    large piece is not overtaken by small ones.
    """

    def __init__(self, most: int = BYTES_IN_FLIGHT) -> None:
        self._most = most
        self._held = 0
        self._queue: collections.deque[object] = collections.deque()
        self._changed = threading.Condition()

    @property
    def held(self) -> int:
        """The bytes that are held now."""
        return self._held

    def queue(self) -> object:
        """Return a place in the queue; each must `leave` it once."""
        place = object()
        with self._changed:
            self._queue.append(place)
        return place

    def take(self, place: object, size: int, timeout_s: float) -> bool:
        """Hold some bytes once they fit and it is their turn; return False when time is over."""
        with self._changed:
            fits = self._changed.wait_for(lambda: self._may_go(place, size), timeout_s)
            if fits:
                self._held += size
            return fits

    def _may_go(self, place: object, size: int) -> bool:
        room = self._held == 0 or self._held + size <= self._most
        return self._queue[0] is place and room

    def leave(self, place: object) -> None:
        """Leave the queue."""
        with self._changed:
            self._queue.remove(place)
            self._changed.notify_all()

    def give_back(self, size: int) -> None:
        """Release some bytes."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()
