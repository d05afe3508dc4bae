"""What the threads of a process share: made for the first user, closed by the last one."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What a pool holds."""

    def close(self) -> None:
        """Ends it; nobody uses it any more."""


T = TypeVar("T", bound=Closable)


@dataclasses.dataclass(slots=True)
class _Shared(Generic[T]):
    key: Hashable
    thing: T
    users: int


class Pool(Generic[T]):
    """Things by key, each with the number of its users.

    Beam makes a DoFn for each thread: what is held there is per thread, and two threads would keep
    twice the calls in flight.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: list[_Shared[T]] = []

    def take(
        self, key: Hashable, make: Callable[[], T], usable: Callable[[T], bool] = lambda _: True
    ) -> T:
        """The thing of that key, made where there is none that is usable.

        Each caller must `give_back` it once.  Raises what `make` does.
        """
        with self._lock:
            for shared in self._shared:
                if shared.key == key and usable(shared.thing):
                    shared.users += 1
                    return shared.thing
            thing = make()
            self._shared.append(_Shared(key, thing, 1))
            return thing

    def give_back(self, thing: T) -> None:
        """Gives a thing back; the last user to do so closes it."""
        with self._lock:
            shared = next((one for one in self._shared if one.thing is thing), None)
            if shared is None:
                return
            shared.users -= 1
            if shared.users > 0:
                return
            self._shared.remove(shared)
        thing.close()

    def held(self) -> list[T]:
        """All that somebody uses now."""
        with self._lock:
            return [shared.thing for shared in self._shared]
