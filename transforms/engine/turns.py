"""A call's turn at the gate: while it waits, when it is let go, and why it may not go."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from transforms.core.packing import TextItem


class TooLarge(Exception):
    """The call no longer fits what a call may hold: pack it anew."""


class DaySpent(Exception):
    """The day's quota is gone until `resets_at` (epoch seconds)."""

    def __init__(self, resets_at: float) -> None:
        super().__init__(resets_at)
        self.resets_at = resets_at


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """A call in the air: its ticket in the mirror, and when it was let go."""

    ticket: int
    sent_at: float


@dataclasses.dataclass(slots=True, eq=False)
class Waiter:
    """A call in the queue."""

    items: Sequence[TextItem]
    tokens: int
    granted: asyncio.Future[Slot]
    place: tuple[int, int]
