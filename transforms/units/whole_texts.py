"""Long texts that are known as a whole, so that none of their passages is sent.

With `--long-text mean`, a committed row has the mean of its passages, and the hash of its whole
text. The vectors of the passages are not in the dataset.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Container, Sequence

import numpy as np

from bulkembed.schemas.embedding import EmbeddingConfig, LongText
from bulkembed.transforms.core.content import Content, TextContent, sent_hash
from bulkembed.transforms.core.tokens import features
from bulkembed.transforms.dataset.known_vectors import KnownVectors, VectorBlock, distinct_keys
from bulkembed.transforms.units.distinct_contents import Passage
from bulkembed.transforms.units.prepare import PreparedUnit


def take_whole_texts(
    prepared: PreparedUnit, embedding: EmbeddingConfig, sources: Sequence[KnownVectors]
) -> tuple[PreparedUnit, list[VectorBlock]]:
    """Read the known vectors of whole texts.

    Args:
        prepared: a unit.
        embedding: how a text is sent.
        sources: of known vectors, in order of preference.

    Returns:
        The unit, in which each row with such a vector has its whole text as its only passage; and
        the vectors.

    Raises:
        OutputError: a source cannot be read.
    """
    wanted = set(whole_hashes(prepared, embedding).values())
    blocks = []
    for source in sources:
        if not wanted:
            break
        for block in source.read(distinct_keys(list(wanted))):
            own = [place for place, one in enumerate(block.hashes) if one in wanted]
            if own:
                blocks.append(_some_of(block, own))
                wanted.difference_update(blocks[-1].hashes)
    known = {one for block in blocks for one in block.hashes}
    return with_whole_texts(prepared, embedding, known), blocks


def whole_hashes(prepared: PreparedUnit, embedding: EmbeddingConfig) -> dict[int, bytes]:
    """Return the hashes of whole texts by the offsets of rows that get a mean of passages."""
    if embedding.long_text is not LongText.MEAN:
        return {}
    rows = prepared.rows
    return {
        offset: sent_hash(embedding, rows.titles[offset], rows.texts[offset] or "")
        for offset, passages in enumerate(prepared.passages)
        if len(passages) > 1
    }


def with_whole_texts(
    prepared: PreparedUnit, embedding: EmbeddingConfig, known: Container[bytes]
) -> PreparedUnit:
    """Return a unit in which rows with some whole texts, given by their hashes, have no passages.

    Contents that no row has any more are left out.
    """
    hashes = whole_hashes(prepared, embedding)
    hashes = {offset: one for offset, one in hashes.items() if one in known}
    if not hashes:
        return prepared
    index_of: dict[int | bytes, int] = collections.defaultdict(lambda: len(index_of))
    items: dict[int, Content] = {}
    passages: list[tuple[Passage, ...]] = []
    for offset, row in enumerate(prepared.passages):
        if offset in hashes:
            index = index_of[hashes[offset]]
            items[index] = _never_sent(index, hashes[offset])
            row = (Passage(index, 0, len(prepared.rows.texts[offset] or "")),)
        else:
            row = tuple(passage._replace(item=index_of[passage.item]) for passage in row)
        passages.append(row)
    for old, index in index_of.items():
        if isinstance(old, int):
            items[index] = dataclasses.replace(prepared.items[old], index=index)
    ordered = tuple(items[index] for index in range(len(items)))
    return dataclasses.replace(prepared, items=ordered, passages=tuple(passages))


def _never_sent(index: int, whole_hash: bytes) -> Content:
    """Return the content of a text whose vector is known."""
    return TextContent(index, whole_hash, 0, 0, features(""), False, None, "")


def _some_of(block: VectorBlock, places: list[int]) -> VectorBlock:
    return dataclasses.replace(
        block,
        hashes=[block.hashes[place] for place in places],
        vectors=block.vectors[np.array(places)],
        truncated=[block.truncated[place] for place in places],
    )
