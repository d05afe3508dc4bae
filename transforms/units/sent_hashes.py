"""The hashes of what rows with media send, found by reading the files that they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.inputs.filesystems import Location
from bulkembed.transforms.inputs.row_parts import RowPart
from bulkembed.transforms.inputs.rows import BadValue
from bulkembed.transforms.units.distinct_contents import DistinctContents
from bulkembed.transforms.units.media_rows import (
    FetchAhead,
    MediaRows,
    hash_of_sources,
    is_media,
    read_sources,
)


class SentHash(NamedTuple):
    """The hash of a content of a row, and its place in the row's file if it is a piece."""

    hash: bytes
    start: float = 0.0
    end: float = 0.0


SentHashes = tuple[SentHash, ...]


def sent_hashes(
    rows: Sequence[Sequence[RowPart]],
    embedding: EmbeddingConfig,
    fetch: FetchAhead,
    base: Location | None = None,
) -> Iterator[SentHashes | BadValue]:
    """Yield the hashes of the contents of each row, or why it cannot be sent; none without a part.

    Only files that may be cut into pieces are checked.

    Args:
        rows: their parts.
        embedding: how media is prepared.
        fetch: reads what is not in the rows.
        base: the folder of relative paths.

    Raises:
        OutputError: the disk is full.
    """
    if embedding.rows_are_passages:
        yield from _hashes_of_pieces(rows, embedding, fetch, base)
        return
    for sources in read_sources(rows, fetch, base):
        if isinstance(sources, BadValue):
            yield sources
        elif is_media(sources):
            yield (SentHash(hash_of_sources(sources)),)
        else:
            yield tuple(SentHash(sent_hash(embedding, None, str(text))) for text in sources)


def _hashes_of_pieces(
    rows: Sequence[Sequence[RowPart]],
    embedding: EmbeddingConfig,
    fetch: FetchAhead,
    base: Location | None,
) -> Iterator[SentHashes | BadValue]:
    """Yield the hashes of each row's pieces: how many a file has is known once it is cut."""
    sent = DistinctContents(embedding, TokenEstimator())
    media = MediaRows(sent, embedding.media or MediaSettings(), fetch, base)
    for content in media.add(rows):
        if isinstance(content, BadValue):
            yield content
        else:
            places = content.passages if content is not None else ()
            yield tuple(SentHash(sent.items[at.item].hash, at.start, at.end) for at in places)
