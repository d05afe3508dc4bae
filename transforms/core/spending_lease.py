"""What one process has paid, and how much more it may pay before it writes that down again.

Processes that share no locked file each write a note of their own. A note would be out of date
with every request, so it also says how much the process may pay until the next note. Thus the sum
of the notes is never too low, even after `kill -9`, and too high by at most what is left of that.
"""

from __future__ import annotations

import dataclasses

from bulkembed.schemas.serialization import Count

LEASE_S = 30.0
"""How long a lease should last at the present speed."""
MIN_LEASE_TOKENS = 50_000
BUDGET_FRACTION = 0.01
"""The part of a budget that a lease has at most, because after a kill it counts as paid."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spent:
    """Tokens that were paid."""

    tokens: Count = 0
    unconfirmed: Count = 0
    """How many of `tokens` no answer confirmed: they may have been billed, or not."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.tokens + other.tokens, self.unconfirmed + other.unconfirmed)


@dataclasses.dataclass(frozen=True, slots=True)
class SpendingNote:
    """What a process of a run has paid."""

    tokens: Count = 0
    unconfirmed: Count = 0
    """How many of `tokens` no answer confirmed."""
    ahead: Count = 0
    """What it may have paid in addition since the note was written, at most."""

    @property
    def spent(self) -> Spent:
        """What it has paid at most."""
        return Spent(self.tokens + self.ahead, self.unconfirmed + self.ahead)


class SpendingLease:
    """The spending of a process: what is paid and in flight always fits the last note.

    Args:
        budget_tokens: what the dataset may cost; None for any number.
    """

    def __init__(self, budget_tokens: int | None = None) -> None:
        self._max = None if budget_tokens is None else int(budget_tokens * BUDGET_FRACTION)
        self._paid = 0
        self._unconfirmed = 0
        self._in_flight = 0
        self._covered = 0
        self._ahead = 0
        self._noted_at = 0.0
        self._noted = 0

    @property
    def _used(self) -> int:
        return self._paid + self._in_flight

    def covers(self, tokens: int) -> bool:
        """Return whether a call of so many tokens fits the last note."""
        return self._used + tokens <= self._covered

    @property
    def is_low(self) -> bool:
        """Return whether less than half of the lease is left."""
        return self._covered - self._used < self._ahead / 2

    def reserve(self, tokens: int) -> None:
        """Count a call as in flight."""
        self._in_flight += tokens

    def settle(self, reserved: int, tokens: int, *, confirmed: bool) -> None:
        """Count a call as over."""
        self._in_flight -= reserved
        self._paid += tokens
        self._unconfirmed += 0 if confirmed else tokens

    def renewed(self, now: float, tokens: int) -> SpendingNote:
        """Return a note that covers a call of so many tokens, and about 30 s at the present speed.

        Args:
            now: seconds, monotonic.
            tokens: of the next call.
        """
        seconds = now - self._noted_at
        speed = (self._used - self._noted) / seconds if self._ahead and seconds > 0 else 0.0
        ahead = max(MIN_LEASE_TOKENS, 2 * tokens, int(LEASE_S * speed))
        self._ahead = ahead if self._max is None else max(tokens, min(ahead, self._max))
        self._noted_at, self._noted = now, self._used
        return self._note()

    def ended(self) -> SpendingNote:
        """Return a note without a lease: only calls in flight may still be paid."""
        self._ahead = 0
        return self._note()

    def _note(self) -> SpendingNote:
        note = SpendingNote(self._paid, self._unconfirmed, self._in_flight + self._ahead)
        # Until the note is written, calls must fit both it and the one before.
        self._covered = min(self._covered, note.spent.tokens)
        return note

    def written(self, note: SpendingNote) -> None:
        """Use a note that was written."""
        self._covered = note.spent.tokens
