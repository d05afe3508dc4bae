"""The distinct contents of some rows, and why a row has none."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.transforms.core.content import Content, as_sent, text_content
from bulkembed.transforms.core.hashing import text_hash
from bulkembed.transforms.core.passages import spans
from bulkembed.transforms.core.tokens import TokenEstimator


def why_blank(text: str | None) -> str | None:
    """What a blank text is: null, empty or white space; None for one that is not blank."""
    if text is not None and not text.isspace() and text:
        return None
    what = "null" if text is None else "empty" if not text else "white space only"
    return f"the text is {what}"


class Passage(NamedTuple):
    """A part of a row's text that is sent by itself: all of it, as a rule."""

    item: int
    """Index of what is sent among the distinct texts."""
    start: int
    """Of the row's text, in characters."""
    end: int


@dataclasses.dataclass(slots=True)
class DistinctContents:
    """Contents as they are sent, in the order in which they came first; each once with `dedupe`."""

    embedding: EmbeddingConfig
    estimator: TokenEstimator
    items: list[Content] = dataclasses.field(default_factory=list)
    dedupe: bool = True
    _index_of: dict[bytes, int] = dataclasses.field(default_factory=dict)

    @property
    def hashes(self) -> list[bytes]:
        """The hash of each content, in the order of `items`."""
        return [content.hash for content in self.items]

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
                text_content(index, name, sent_title, sent_text, self.embedding, self.estimator)
            )
        return index
