"""What the engines of this process have done, and are at."""

from __future__ import annotations

from schemas.live import Live, LiveCounts
from transforms.engine.engine import Engine, running_engines


class EnginesHere:
    """The engines of this process; those that are closed count on."""

    def __init__(self) -> None:
        self._seen: list[Engine] = []

    def look(self) -> Live:
        """What they have done, and what those that run are at."""
        running = running_engines()
        self._seen += [engine for engine in running if engine not in self._seen]
        done = sum((engine.done() for engine in self._seen), LiveCounts())
        return sum((engine.at() for engine in running), Live(counts=done, in_air=0))

    def close(self) -> None:
        """There is nothing to end."""
