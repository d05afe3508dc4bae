"""A text cut into passages: at paragraphs, else sentences, else words, else wherever it must be."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.passages import PassageSize
from bulkembed.transforms.core.content import as_sent

if TYPE_CHECKING:
    from semantic_text_splitter import TextSplitter

Span = tuple[int, int]
"""Start and end of a passage in its text, in characters (code points)."""
WINDOW = 8
"""Passages that the splitter looks at together.  Its time grows with the square of a piece that has
no place to cut: without windows a megabyte of base64 takes 10 s."""


def spans(config: EmbeddingConfig, title: str | None, text: str) -> list[Span]:
    """The passages that a row's text is sent in, ascending; all of it where it need not be cut.

    What no passage holds is white space.
    """
    size = config.passages
    if size is None or _fits(config, size, title, text):
        return [(0, len(text))]
    return [*cut(text, _room(config, size, title), size.overlap_bytes)]


def cut(text: str, most_bytes: int, overlap_bytes: int) -> Iterator[Span]:
    """The passages of a text, each of at most so many bytes of UTF-8.

    Source: the levels are those of semantic-text-splitter, runs of newlines, then sentences, words
    and grapheme clusters as Unicode's UAX 29 has them, then characters.
    """
    splitter, width = _splitter(most_bytes, overlap_bytes), WINDOW * most_bytes
    start = 0
    while start < len(text):
        end = min(len(text), start + width)
        found = [
            (start + at, start + at + len(passage))
            for at, passage in splitter.chunk_indices(text[start:end])
            if not passage.isspace()
        ]
        if end < len(text) and found and found[-1][0] > start:
            # It may go on beyond the window.
            end, _ = found.pop()
        yield from found
        start = end


def _fits(config: EmbeddingConfig, size: PassageSize, title: str | None, text: str) -> bool:
    """Whether all of a text is one passage."""
    return utf8_bytes(text) + _beside(config, title) <= size.most_bytes


def _room(config: EmbeddingConfig, size: PassageSize, title: str | None) -> int:
    """The bytes that a passage has for the text; half of all, whatever the title takes."""
    return max(size.most_bytes // 2, size.most_bytes - _beside(config, title))


def _beside(config: EmbeddingConfig, title: str | None) -> int:
    """The bytes of what is sent beside the text."""
    sent_title, prefix = as_sent(config, title, "")
    return utf8_bytes(sent_title or "") + utf8_bytes(prefix)


def utf8_bytes(text: str) -> int:
    """The size of a text."""
    return len(text) if text.isascii() else len(text.encode())


@functools.lru_cache(maxsize=64)
def _splitter(most_bytes: int, overlap_bytes: int) -> TextSplitter:
    # Imported when a text is cut: no other run needs it.
    from semantic_text_splitter import TextSplitter

    return TextSplitter.from_callback(utf8_bytes, most_bytes, overlap_bytes)
