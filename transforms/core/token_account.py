"""How many tokens a dataset has cost in all its runs, and whether a call fits the budget."""

from __future__ import annotations

import bisect
import dataclasses
import enum
import itertools
import json
from collections.abc import Iterable, Sequence

from bulkembed.schemas.serialization import from_plain
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.spending_lease import Spent

EXTRA_TOKENS = 8
"""Tokens that a service may add to each content."""


class SpendDecision(enum.Enum):
    """Whether a call may be sent."""

    YES = enum.auto()
    WAIT = enum.auto()
    """Calls in flight may cost less than their reservation: try again later."""
    NO = enum.auto()


def max_billed_tokens(contents: Iterable[Content]) -> int:
    """Return the maximum number of tokens of text that cost as much as a call can cost."""
    return sum(max_billed_each(contents))


def max_billed_each(contents: Iterable[Content]) -> list[int]:
    """Return the part of each content in `max_billed_tokens`."""
    return [content.billed_bound + EXTRA_TOKENS for content in contents]


@dataclasses.dataclass(slots=True)
class TokenAccount:
    """Tokens that were paid, and tokens that are reserved for calls in flight.

    Tokens of media count as the tokens of text that cost the same.

    A call reserves the maximum that it can cost. So `paid` never exceeds a limit, whatever the
    number of calls in flight, and a call whose process was killed counts with its reservation.
    """

    paid: int = 0
    reserved: int = 0
    run_number: int = 0
    """Distinguishes runs, and only grows: reservations end when the next run starts."""
    limit_reached: int = 0
    """The limit that ended a run, so that the next run does not start to fill the last gap."""
    changes: int = 0
    """Counts reservations and settlements, so that waiting calls see progress."""
    unconfirmed: int = 0
    """How many of the paid tokens no answer confirmed: they may have been billed, or not."""
    paid_before: int | None = None
    """Tokens that were paid when the last run started; None if unknown."""

    def start_run(self, known: int, run_number: int = 0) -> None:
        """Start a run: the last run's reservations may have been paid, so they count as paid.

        Args:
            known: tokens that commit records show as paid.
            run_number: of the run in the dataset. It tells this run from those before the account
                was deleted, whose calls may still be in flight.
        """
        self.unconfirmed += self.reserved
        self.paid = max(self.paid + self.reserved, known)
        self.paid_before = self.paid
        self.reserved = 0
        self.run_number = max(self.run_number + 1, run_number)

    def reserve(self, tokens: int, limit: int | None) -> SpendDecision:
        """Reserve a call's tokens if they fit the limit; without a limit they always do."""
        decision = self.check(tokens, limit)
        if decision is SpendDecision.YES:
            self.reserved += tokens
            self.changes += 1
        return decision

    def check(self, tokens: int, limit: int | None) -> SpendDecision:
        """Return whether a call's tokens fit the limit; reserve nothing."""
        if limit is not None:
            if self.limit_reached >= limit or self.paid + tokens > limit:
                self.close(limit)
                return SpendDecision.NO
            if self.paid + self.reserved + tokens > limit:
                return SpendDecision.WAIT
        return SpendDecision.YES

    def fitting(self, tokens: Sequence[int], limit: int | None) -> int:
        """Return how many of the first contents a call may have: at least 1 if there are any.

        A call of more would exceed the limit even if those in flight cost nothing.

        Args:
            tokens: the maximum cost of each content.
            limit: None for no limit.
        """
        if limit is None:
            return len(tokens)
        totals = list(itertools.accumulate(tokens))
        return max(1, bisect.bisect_right(totals, limit - self.paid))

    def close(self, limit: int) -> None:
        """Admit no more calls under this limit, or under a lower one."""
        self.limit_reached = max(self.limit_reached, limit)

    def settle(self, reserved: int, paid: int, run_number: int, *, confirmed: bool = True) -> None:
        """Replace a call's reservation by what it cost; ignore calls of earlier runs.

        Args:
            reserved: what the call had reserved.
            paid: what it cost.
            run_number: of the run that sent it.
            confirmed: whether an answer says what it cost.
        """
        if run_number == self.run_number:
            self.reserved -= reserved
            self.paid += paid
            self.unconfirmed += 0 if confirmed else paid
            self.changes += 1

    @property
    def spent(self) -> Spent:
        """What was paid at most; calls in flight, or of a killed run, are not confirmed."""
        return Spent(self.paid + self.reserved, self.unconfirmed + self.reserved)

    def to_bytes(self) -> bytes:
        """Return a line of JSON. Its length is constant, because it is overwritten in place."""
        content = {key: getattr(self, name) for key, name in _FIELDS.items()}
        return json.dumps(content).ljust(_LENGTH).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> TokenAccount:
        """Return the account of `to_bytes`; a new one if there are no bytes.

        Raises:
            ValueError: the bytes are not an account.
        """
        if not data:
            return cls()
        content = json.loads(data)
        if not isinstance(content, dict) or content.keys() | _LATER != _FIELDS.keys():
            raise ValueError("not an account")
        return from_plain({_FIELDS[key]: value for key, value in content.items()}, cls)


_FIELDS = {
    "paid": "paid",
    "held": "reserved",
    "run": "run_number",
    "reached": "limit_reached",
    "moves": "changes",
    "unconfirmed": "unconfirmed",
    "before": "paid_before",
}
"""The fields by their keys in the file."""
_LATER = {"moves", "unconfirmed", "before"}
"""Keys that earlier versions did not write."""
_LENGTH = 200
