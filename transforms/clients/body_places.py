"""Places for bodies that are received at the same time."""

from __future__ import annotations

import asyncio
from types import TracebackType

STALLED_S = 1.0
"""A body of which nothing arrives for so long gives its place to others."""


class BodyPlace:
    """The place of one body, to be used in an `async with`.

    Args:
        free: the places that no body has.
    """

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._is_held = False
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> BodyPlace:
        await self.arrived()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_back()

    async def arrived(self) -> None:
        """Note that a piece has arrived; wait for a place if the body had lost its own."""
        if not self._is_held:
            await self._free.acquire()
            self._is_held = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(STALLED_S, self._give_back)

    def _give_back(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._is_held:
            self._is_held = False
            self._free.release()
