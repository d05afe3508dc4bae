"""What a dataset has cost in tokens, over all its runs, and whether one more call may go."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable

from bulkembed.transforms.core.content import Content

EXTRA_TOKENS = 8
"""Tokens that a service may add to each text."""


class Leave(enum.Enum):
    """What a call is told."""

    GO = enum.auto()
    WAIT = enum.auto()
    """What is in the air may cost less than it holds: ask again."""
    NEVER = enum.auto()


def most_cost(items: Iterable[Content]) -> int:
    """The most tokens that a call can be billed for: the bytes of its texts, and some."""
    return sum(item.token_bound + EXTRA_TOKENS for item in items)


@dataclasses.dataclass(slots=True)
class Account:
    """Tokens paid for, and tokens that calls in the air hold until they are answered.

    A call holds the most that it can cost, so that `paid` never passes a limit, however many calls
    there are in the air, and a call whose process was killed counts as if it had cost that.
    """

    paid: int = 0
    held: int = 0
    run: int = 0
    """Tells the runs apart, and only grows: what a call holds goes when the next run begins."""
    reached: int = 0
    """The limit that ended a run, so that the next one does not begin to fill the last gap."""
    moves: int = 0
    """Counts what was held and settled, so that whoever waits sees that others are at work."""

    def begin(self, known: int, run_number: int = 0) -> None:
        """Begins a run.  What the last one held may have been paid; so may what others know of.

        The run's number in the dataset tells it from runs before the account was deleted, whose
        calls may still be in flight.
        """
        self.paid = max(self.paid + self.held, known)
        self.held = 0
        self.run = max(self.run + 1, run_number)

    def hold(self, tokens: int, most: int | None) -> Leave:
        """Holds a call's tokens where there is room for them; `most` None: there always is."""
        leave = self.ask(tokens, most)
        if leave is Leave.GO:
            self.held += tokens
            self.moves += 1
        return leave

    def ask(self, tokens: int, most: int | None) -> Leave:
        """Whether there is room for a call's tokens; nothing is held."""
        if most is not None:
            if self.reached >= most or self.paid + tokens > most:
                self.close(most)
                return Leave.NEVER
            if self.paid + self.held + tokens > most:
                return Leave.WAIT
        return Leave.GO

    def close(self, most: int) -> None:
        """Nothing more may be sent under this limit, nor under a lower one."""
        self.reached = max(self.reached, most)

    def settle(self, held: int, paid: int, run: int) -> None:
        """A call is over: what it held goes, what it cost stays."""
        if run == self.run:
            self.held -= held
            self.paid += paid
            self.moves += 1

    def to_bytes(self) -> bytes:
        """A line of JSON, always of the same length: it is written over."""
        return json.dumps(dataclasses.asdict(self)).ljust(_LENGTH).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Account:
        """The account of `to_bytes`; a new one where there is nothing.

        Raises:
            ValueError: it is none.
        """
        if not data:
            return cls()
        content = json.loads(data)
        known = dataclasses.asdict(cls()).keys()
        # One of an earlier version has no `moves`.
        if not isinstance(content, dict) or content.keys() | {"moves"} != known:
            raise ValueError("no account")
        return cls(**{name: int(value) for name, value in content.items()})


_LENGTH = 120
