"""A row's text as an item that can be sent, and why one cannot be."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from bulkembed.schemas.embedding import EmbeddingConfig, LongText
from bulkembed.transforms.core.hashing import text_hash
from bulkembed.transforms.core.packing import (
    REQUEST_BYTES,
    CallLimits,
    TextItem,
    json_bytes,
    within_body,
)
from bulkembed.transforms.core.passages import spans
from bulkembed.transforms.core.prompts import as_sent
from bulkembed.transforms.core.tokens import TokenEstimator, features, readable_part

MOST_TITLE_BYTES = 2**20
"""Of a title in a body: longer ones are cut, so that there is room for the text."""


def text_item(
    index: int, title: str | None, text: str, embedding: EmbeddingConfig, estimator: TokenEstimator
) -> TextItem:
    """A text as it is sent, measured: never above the most tokens that the model takes.

    Where the service may cut it, what is beyond all that the model can read is not sent: with it, a
    text of some MB would not fit into any call.
    """
    whole = title, text
    if embedding.long_text is LongText.TRUNCATE:
        title, text = _readable(title, text, embedding)
    made_of = features(text if title is None else f"{title} {text}")
    tokens = estimator.estimate_call(made_of)
    if estimator.max_tokens is not None:
        tokens = min(tokens, estimator.max_tokens)
    body_bytes = json_bytes(text) + (json_bytes(title) + 10 if title is not None else 0)
    return TextItem(index, title, text, tokens, body_bytes, made_of, (title, text) != whole)


def _readable(title: str | None, text: str, embedding: EmbeddingConfig) -> tuple[str | None, str]:
    """As much of a title and a text as the model can read and a call can hold."""
    spec, room = embedding.spec, (CallLimits().body_bytes or 0) - REQUEST_BYTES
    if spec.known:
        text = readable_part(text, spec.max_tokens)
        title = title and readable_part(title, spec.max_tokens)
    if title is not None:
        title = within_body(title, MOST_TITLE_BYTES)
        room -= json_bytes(title) + 10
    return title, within_body(text, room)


def why_blank(text: str | None) -> str | None:
    """What a blank text is: null, empty or white space; None for one that is not blank."""
    if text is not None and not text.isspace() and text:
        return None
    what = "null" if text is None else "empty" if not text else "white space only"
    return f"the text is {what}"


def sent_hash(embedding: EmbeddingConfig, title: str | None, text: str) -> bytes:
    """The hash of a text as it is sent, or would be if it were not cut."""
    return text_hash(*as_sent(embedding, title, text))


class Passage(NamedTuple):
    """A part of a row's text that is sent by itself: all of it, as a rule."""

    item: int
    """Index of what is sent among the distinct texts."""
    start: int
    """Of the row's text, in characters."""
    end: int


@dataclasses.dataclass(slots=True)
class SentTexts:
    """Texts as they are sent, in the order in which they came first; each once with `dedupe`.

    `hashes[i]` is the text hash of `items[i]`, before anything is cut off that the model cannot
    read.
    """

    embedding: EmbeddingConfig
    estimator: TokenEstimator
    items: list[TextItem] = dataclasses.field(default_factory=list)
    hashes: list[bytes] = dataclasses.field(default_factory=list)
    dedupe: bool = True
    _index_of: dict[bytes, int] = dataclasses.field(default_factory=dict)

    def add(self, title: str | None, text: str) -> tuple[Passage, ...]:
        """The passages of a row's text, in order."""
        places = spans(self.embedding, title, text)
        return tuple([Passage(self._item(title, text[a:b]), a, b) for a, b in places])

    def _item(self, title: str | None, text: str) -> int:
        """The index in `items` of what is sent for a text."""
        sent_title, sent_text = as_sent(self.embedding, title, text)
        name = text_hash(sent_title, sent_text)
        new = len(self.items)
        index = self._index_of.setdefault(name, new) if self.dedupe else new
        if index == new:
            self.items.append(
                text_item(index, sent_title, sent_text, self.embedding, self.estimator)
            )
            self.hashes.append(name)
        return index
