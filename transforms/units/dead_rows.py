"""How many rows this process has given up on, and when that is too many."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from bulkembed.schemas.stop import StopReason

if TYPE_CHECKING:
    from bulkembed.transforms.calls.stopping import StopFlag


class DeadRowBudget:
    """Ends the run as soon as it is certain that too many rows are given up on.

    Args:
        most: the rows that may be; None: any number.
        stop: set when there are more.
    """

    def __init__(self, most: int | None, stop: StopFlag) -> None:
        self._most = most
        self._stop = stop
        self._lock = threading.Lock()
        self._spent = 0

    def end(self, message: str) -> None:
        """Ends the run for one row that was to stop it."""
        self._stop.set(StopReason.BROKEN, message)

    def spend(self, rows: int, reason: str) -> None:
        """Counts rows that were given up on, for a reason; blank ones are not among them."""
        with self._lock:
            self._spent += rows
            spent = self._spent
        if self._most is not None and rows and spent > self._most:
            self._stop.set(StopReason.DEAD_LETTERS, too_many(spent, self._most, reason))


def too_many(dead: int, most: int, reason: str | None = None) -> str:
    """The sentence for a run that gave up on too many rows; `reason` is the last one."""
    return (
        f"{dead:,} rows were given up on, {most:,} may be"
        + (f" (the last one: {reason})" if reason else "")
        + "; look at dead_letters/, then correct the input, or remove the cause and use "
        "--retry-failed, or raise --max-dead-letters"
    )
