"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class JumpingLoop(asyncio.SelectorEventLoop):
    """Minutes of timers pass in no time; only for coroutines that wait for nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_780_000_000.0
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds, as `time.time` tells them."""
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run(work: Coroutine[Any, Any, T], loop: JumpingLoop | None = None) -> T:
    """Run a coroutine on such a loop."""
    loop = loop or JumpingLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()
