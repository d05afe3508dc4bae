"""Cut a text into passages: at paragraphs, or else at sentences, at words, or anywhere."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bulkembed.schemas.embedding import EmbeddingConfig, PassageSize
from bulkembed.transforms.core.content import as_sent
from bulkembed.transforms.core.tokens import utf8_bytes

if TYPE_CHECKING:
    from semantic_text_splitter import TextSplitter

Span = tuple[int, int]
"""Start and end of a passage in its text, in characters (code points)."""
WINDOW = 8
"""Passages that the splitter sees together. Its time grows with the square of a piece without a
place to cut: without windows, a megabyte of base64 takes 10 s."""


def passage_spans(config: EmbeddingConfig, title: str | None, text: str) -> list[Span]:
    """Return the passages of a row's text, ascending; the whole text if it need not be cut.

    Only white space is outside the passages.
    """
    size = config.passages
    if size is None or not may_be_cut(config, title, text):
        return [(0, len(text))]
    return [*split_text(text, _room(config, size, title), size.overlap_bytes)]


def may_be_cut(config: EmbeddingConfig, title: str | None, text: str) -> bool:
    """Return whether a text is too long for one passage, counting the white space around it."""
    size = config.passages
    return size is not None and utf8_bytes(text) + _overhead(config, title) > size.max_bytes


def split_text(text: str, max_bytes: int, overlap_bytes: int) -> Iterator[Span]:
    """Yield the passages of a text, each of at most `max_bytes` bytes of UTF-8.

    Source: the levels are those of semantic-text-splitter: sequences of newlines, then sentences,
    words and grapheme clusters of Unicode's UAX 29, then characters.
    """
    splitter, width = _splitter(max_bytes, overlap_bytes), WINDOW * max_bytes
    start = 0
    while start < len(text):
        end = min(len(text), start + width)
        found = [
            (start + at, start + at + len(passage))
            for at, passage in splitter.chunk_indices(text[start:end])
            if not passage.isspace()
        ]
        if end < len(text) and found and found[-1][0] > start:
            # It may continue after the window.
            end, _ = found.pop()
        yield from found
        start = end


def _room(config: EmbeddingConfig, size: PassageSize, title: str | None) -> int:
    """Return how many bytes of text a passage may have; at least half, whatever the title."""
    return max(size.max_bytes // 2, size.max_bytes - _overhead(config, title))


def _overhead(config: EmbeddingConfig, title: str | None) -> int:
    """Return the bytes that are sent in addition to the text."""
    sent_title, prefix = as_sent(config, title, "")
    return utf8_bytes(sent_title or "") + utf8_bytes(prefix)


@functools.lru_cache(maxsize=64)
def _splitter(max_bytes: int, overlap_bytes: int) -> TextSplitter:
    # Imported only when a text is cut.
    from semantic_text_splitter import TextSplitter

    return TextSplitter.from_callback(utf8_bytes, max_bytes, overlap_bytes)
