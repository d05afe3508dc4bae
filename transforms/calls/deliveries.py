"""Hand the results of calls to those who asked for them; a call may serve several of them."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Protocol

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import CallError
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.content import Content


class ResultReceiver(Protocol):
    """Takes the result of each content. A content without a result is sent by the next run."""

    def embedded(self, contents: Sequence[Content], answer: Answer, attempts: int) -> None:
        """Take the vectors of one answered call, or of the receiver's part of it.

        `attempts` says how often the call was sent; 0 if another receiver counts the call.
        """

    def dead(self, content: Content, code: DeadCode, error: CallError, attempts: int) -> None:
        """Take the failure of one content."""


class Delivery:
    """The results of the contents that one receiver has handed in; lives on one event loop.

    Each content is finished once: with a vector, as dead, or without a result, because the run
    ends.
    """

    def __init__(self, receiver: ResultReceiver, contents: int) -> None:
        self._receiver = receiver
        self._missing = contents
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        """Whether somebody waits for results."""
        return not self._done.done()

    async def wait(self) -> None:
        """Return when every content is finished.

        Raises:
            Exception: the first error with which `fail` was called.
        """
        await self._done

    def embedded(self, contents: Sequence[Content], answer: Answer, attempts: int) -> None:
        """Hand over vectors; what the receiver raises is raised."""
        if self.is_open:
            self._receiver.embedded(contents, answer, attempts)
            self.release(len(contents))

    def dead(self, content: Content, code: DeadCode, error: CallError, attempts: int) -> None:
        """Hand over a failure."""
        if self.is_open:
            self._receiver.dead(content, code, error, attempts)
            self.release(1)

    def release(self, contents: int) -> None:
        """Finish so many contents, with or without a result."""
        self._missing -= contents
        if self._missing == 0 and self.is_open:
            self._done.set_result(None)

    def fail(self, error: Exception) -> None:
        """End with an error; results that come later are dropped."""
        if self.is_open:
            self._done.set_exception(error)

    def close(self) -> None:
        """Drop all results from now on: nobody waits for them any more."""
        self._done.cancel()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Portion:
    """Consecutive contents of one receiver in a call."""

    contents: Sequence[Content]
    delivery: Delivery

    def part(self, start: int, end: int) -> Portion:
        """Return some of its contents."""
        return Portion(self.contents[start:end], self.delivery)


def contents_of(portions: Iterable[Portion]) -> list[Content]:
    """Return the contents of portions, in their order."""
    return list(itertools.chain.from_iterable(one.contents for one in portions))


def split_at(portions: Sequence[Portion], count: int) -> tuple[list[Portion], list[Portion]]:
    """Return the first contents of portions, and the others."""
    first: list[Portion] = []
    rest: list[Portion] = []
    for portion in portions:
        size = len(portion.contents)
        if count > 0:
            first.append(portion if count >= size else portion.part(0, count))
        if count < size:
            rest.append(portion if count <= 0 else portion.part(count, size))
        count -= size
    return first, rest
