"""The distinct contents of some rows, and why a row has none."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.transforms.core.content import Content, as_sent, text_content
from bulkembed.transforms.core.hashing import text_hash
from bulkembed.transforms.core.media_content import SentPart, media_content
from bulkembed.transforms.core.passages import passage_spans
from bulkembed.transforms.core.tokens import TokenEstimator


def why_blank(text: str | None) -> str | None:
    """Return why a text is blank: null, empty or white space; None if it is not."""
    if text is not None and not text.isspace() and text:
        return None
    what = "null" if text is None else "empty" if not text else "white space only"
    return f"the text is {what}"


class Passage(NamedTuple):
    """A part of a row's text that is sent by itself; usually the whole text."""

    item: int
    """The index of its content among the distinct contents."""
    start: float
    """Its place in the row's text, in characters; of a piece of media, in seconds or pages."""
    end: float


class RowFailure(NamedTuple):
    """Why a row has no vector and becomes a dead letter."""

    code: DeadCode
    message: str
    http_status: int | None = None
    attempts: int = 0


@dataclasses.dataclass(slots=True)
class DistinctContents:
    """Contents as they are sent, in the order of their first rows; each once with `dedupe`."""

    embedding: EmbeddingConfig
    estimator: TokenEstimator
    items: list[Content] = dataclasses.field(default_factory=list)
    dedupe: bool = True
    _index_of: dict[bytes, int] = dataclasses.field(default_factory=dict)

    def add(self, title: str | None, text: str) -> tuple[Passage, ...]:
        """Add the text of a row; return its passages, in order."""
        places = passage_spans(self.embedding, title, text)
        return tuple([Passage(self._item(title, text[a:b]), a, b) for a, b in places])

    def place_of(self, content_hash: bytes) -> tuple[Passage, ...] | None:
        """Return the place of a content that was added before; None for another one."""
        index = self._index_of.get(content_hash) if self.dedupe else None
        return None if index is None else (Passage(index, 0, 0),)

    def add_parts(self, content_hash: bytes, parts: Sequence[SentPart]) -> tuple[Passage, ...]:
        """Add parts that are sent together; return their place."""
        index = len(self.items)
        self._index_of[content_hash] = index
        spec = self.embedding.spec
        self.items.append(media_content(index, content_hash, parts, spec, self.estimator))
        return (Passage(index, 0, 0),)

    def _item(self, title: str | None, text: str) -> int:
        """Return the index in `items` of the content of a text."""
        sent_title, sent_text = as_sent(self.embedding, title, text)
        content_hash = text_hash(sent_title, sent_text)
        new = len(self.items)
        index = self._index_of.setdefault(content_hash, new) if self.dedupe else new
        if index == new:
            self.items.append(
                text_content(
                    index, content_hash, sent_title, sent_text, self.embedding, self.estimator
                )
            )
        return index
