"""A failing history with fewer steps."""

from __future__ import annotations

import time
from collections.abc import Callable

from chaos.history import History
from chaos.model import Wrong

MOST_S = 600.0
TRIES = 2
"""How often a shorter history is played before it counts as one that passes: moments are random."""


def shrunk(
    history: History, wrong: Wrong, play: Callable[[History], Wrong | None]
) -> tuple[History, Wrong]:
    """Drops one step after the other as long as the history still fails, from the last one on."""
    until = time.monotonic() + MOST_S
    number = len(history.steps)
    while number and time.monotonic() < until:
        number -= 1
        shorter = history.without(number)
        found = next(filter(None, (play(shorter) for _ in range(TRIES))), None)
        if found is not None:
            history, wrong = shorter, found
    return history, wrong
