"""Pack contents into calls, bounded by contents, tokens and bytes; in order, nothing lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from bulkembed.schemas.models import MAX_BODY_BYTES, MAX_TEXTS
from bulkembed.transforms.core.content import BODY_MARGIN_BYTES, REQUEST_BYTES, Content


@dataclasses.dataclass(frozen=True, slots=True)
class CallLimits:
    """The maximum that one call may hold; None means no bound.

    A content that exceeds `tokens` or `body_bytes` by itself is sent in a call of its own.
    """

    texts: int = MAX_TEXTS
    tokens: int | None = None
    body_bytes: int | None = MAX_BODY_BYTES - BODY_MARGIN_BYTES

    def fits(self, texts: int, tokens: int, body_bytes: int) -> bool:
        """Return whether a call of this size is within all three bounds."""
        if texts == 1:
            return True
        return (
            texts <= self.texts
            and (self.tokens is None or tokens <= self.tokens)
            and (self.body_bytes is None or body_bytes <= self.body_bytes)
        )


def fitting(contents: Iterable[Content], limits: CallLimits) -> int:
    """Return how many of the first contents fit into one call: at least 1 if there are any."""
    count = tokens = body_bytes = 0
    for content in contents:
        tokens += content.tokens
        body_bytes += content.body_bytes + REQUEST_BYTES
        if not limits.fits(count + 1, tokens, body_bytes):
            break
        count += 1
    return count


def pack(contents: Sequence[Content], limits: CallLimits) -> list[Sequence[Content]]:
    """Return the contents, in their order, as calls that are each as full as the limits allow.

    Every content is in exactly one call. One that exceeds a limit by itself has its own call.
    """
    calls: list[Sequence[Content]] = []
    start = 0
    while start < len(contents):
        end = start + fitting(contents[start : start + limits.texts], limits)
        calls.append(contents[start:end])
        start = end
    return calls


class CallCount:
    """Counts the calls of contents that come bit by bit; the calls are as full as with `pack`."""

    def __init__(self, limits: CallLimits) -> None:
        self._limits = limits
        self._texts = self._tokens = self._bytes = 0

    def add(self, contents: Iterable[Content]) -> int:
        """Return how many calls some more contents begin."""
        calls = 0
        for content in contents:
            tokens, size = content.tokens, content.body_bytes + REQUEST_BYTES
            sums = self._texts + 1, self._tokens + tokens, self._bytes + size
            if not self._texts or not self._limits.fits(*sums):
                calls += 1
                sums = 1, tokens, size
            self._texts, self._tokens, self._bytes = sums
        return calls

    def end(self) -> None:
        """Begin a new call with the next content."""
        self._texts = 0


def body_size(contents: Sequence[Content]) -> int:
    """Return the bytes of a call with some contents."""
    return sum(content.body_bytes + REQUEST_BYTES for content in contents)


def within(contents: Sequence[Content], limits: CallLimits) -> bool:
    """Return whether the contents may go as one call."""
    return limits.fits(
        len(contents),
        sum(content.tokens for content in contents),
        body_size(contents),
    )


def halves(contents: Sequence[Content]) -> tuple[Sequence[Content], Sequence[Content]]:
    """Split a call into two; the first is the larger one if the number is odd."""
    middle = (len(contents) + 1) // 2
    return contents[:middle], contents[middle:]
