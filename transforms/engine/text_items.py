"""A row's text as an item that can be sent, and why one cannot be."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from schemas.embedding import EmbeddingConfig
from transforms.core.hashing import text_hash
from transforms.core.packing import TextItem, json_bytes
from transforms.core.passages import spans
from transforms.core.prompts import as_sent
from transforms.core.tokens import TokenEstimator, features


def text_item(index: int, title: str | None, text: str, estimator: TokenEstimator) -> TextItem:
    """A text as it is sent, measured: never above the most tokens that the model takes."""
    made_of = features(text if title is None else f"{title} {text}")
    tokens = estimator.estimate_call(made_of)
    if estimator.max_tokens is not None:
        tokens = min(tokens, estimator.max_tokens)
    body_bytes = json_bytes(text) + (json_bytes(title) + 10 if title is not None else 0)
    return TextItem(index, title, text, tokens, body_bytes, made_of)


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

    `hashes[i]` is the text hash of `items[i]`.
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
            self.items.append(text_item(index, sent_title, sent_text, self.estimator))
            self.hashes.append(name)
        return index
