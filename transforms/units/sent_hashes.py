"""The hashes of what rows with media send, found by reading the files that they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.media import MediaFault, MediaKind, MediaSettings
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.media_content import parts_hash
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.inputs.filesystems import Location
from bulkembed.transforms.inputs.row_parts import RowPart
from bulkembed.transforms.inputs.rows import BadValue
from bulkembed.transforms.units.distinct_contents import DistinctContents
from bulkembed.transforms.units.media_rows import (
    FetchAhead,
    MediaRows,
    PartOrRef,
    RowContent,
    is_media,
    parts_with_refs,
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
) -> Iterator[SentHashes]:
    """Yield the hashes of the contents of each row; none of a row that cannot be sent.

    Args:
        rows: their parts.
        embedding: how media is prepared.
        fetch: reads what is not in the rows.
        base: the folder of relative paths.

    Raises:
        OutputError: the disk is full.
    """
    settings = embedding.media or MediaSettings()
    if embedding.rows_are_passages:
        # How many pieces a file has is known once it is cut.
        sent = DistinctContents(embedding, TokenEstimator())
        for content in MediaRows(sent, settings, fetch, base).add(rows):
            places = content.passages if isinstance(content, RowContent) else ()
            yield tuple(SentHash(sent.items[at.item].hash, at.start, at.end) for at in places)
        return
    found = [_parts(row, base) for row in rows]
    fetched = fetch(part[1] for row in found for part in row if not isinstance(part, str))
    for row in found:
        sources: list[str | tuple[MediaKind, bytes]] = []
        has_fault = False
        for part in row:
            if isinstance(part, str):
                sources.append(part)
                continue
            data = next(fetched)
            if isinstance(data, MediaFault):
                has_fault = True
            else:
                sources.append((part[0], data))
        yield () if has_fault or not sources else (SentHash(_hash(sources, embedding)),)


def _parts(row: Sequence[RowPart], base: Location | None) -> list[PartOrRef]:
    try:
        return parts_with_refs(row, base)
    except BadValue:
        return []


def _hash(sources: Sequence[str | tuple[MediaKind, bytes]], embedding: EmbeddingConfig) -> bytes:
    if is_media(sources):
        return parts_hash(sources)
    return sent_hash(embedding, None, str(sources[0]))
