"""Texts into calls: bounded by texts, tokens and bytes, in order, nothing lost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from bulkembed.transforms.core.tokens import Features, upper_bound

REQUEST_BYTES = 320
"""What one request of a batch adds to the body around its text: field names, model, task type."""


@dataclasses.dataclass(frozen=True, slots=True)
class CallLimits:
    """The most that one call may hold; None stands for no bound.

    A text that is over `tokens` or `body_bytes` by itself still goes, alone.
    """

    texts: int = 100
    tokens: int | None = None
    body_bytes: int | None = 4_194_304 - 65_536

    def fits(self, texts: int, tokens: int, body_bytes: int) -> bool:
        """Whether a call of this size is within all three bounds."""
        if texts == 1:
            return True
        return (
            texts <= self.texts
            and (self.tokens is None or tokens <= self.tokens)
            and (self.body_bytes is None or body_bytes <= self.body_bytes)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class TextItem:
    """One distinct text of a unit on its way to the service.

    `index` is its place among the unit's distinct texts; `tokens` an estimate, `features` what it
    is made of (see core.tokens).
    """

    index: int
    title: str | None
    text: str
    tokens: int
    body_bytes: int
    features: Features
    is_cut: bool = False
    """Whether it is only the beginning of the row's text, as much as the model can read."""

    @property
    def most_tokens(self) -> int:
        """A sure bound: no tokenizer makes more tokens of a text than it has UTF-8 bytes."""
        return upper_bound(self.text) + upper_bound(self.title or "")


def json_bytes(text: str) -> int:
    """The bytes of a text in a JSON body that escapes everything but ASCII, as the SDK's does."""
    return len(json.dumps(text))


def within_body(text: str, most_bytes: int) -> str:
    """The longest beginning of a text that takes no more bytes in a JSON body."""
    if 12 * len(text) + 2 <= most_bytes or json_bytes(text) <= most_bytes:
        return text
    low, high = 0, min(len(text), most_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        if json_bytes(text[:middle]) <= most_bytes:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def pack(items: Sequence[TextItem], limits: CallLimits) -> list[list[TextItem]]:
    """The items in their order, in calls that are each within the limits and as full as they get.

    Every item is in exactly one call; an item over a limit by itself has a call of its own.
    """
    calls: list[list[TextItem]] = []
    current: list[TextItem] = []
    tokens = body_bytes = 0
    for item in items:
        size = item.body_bytes + REQUEST_BYTES
        fits = limits.fits(len(current) + 1, tokens + item.tokens, body_bytes + size)
        if current and not fits:
            calls.append(current)
            current, tokens, body_bytes = [], 0, 0
        current.append(item)
        tokens += item.tokens
        body_bytes += size
    if current:
        calls.append(current)
    return calls


def within(items: Sequence[TextItem], limits: CallLimits) -> bool:
    """Whether the items may go as one call."""
    return limits.fits(
        len(items),
        sum(item.tokens for item in items),
        sum(item.body_bytes + REQUEST_BYTES for item in items),
    )


def halves(items: Sequence[TextItem]) -> tuple[Sequence[TextItem], Sequence[TextItem]]:
    """Two calls of half the texts, the first the larger one where the number is odd."""
    middle = (len(items) + 1) // 2
    return items[:middle], items[middle:]
