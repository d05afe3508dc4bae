"""From a unit's texts and their vectors to the rows that are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pyarrow as pa

from schemas.job import JobConfig
from schemas.tables import PASSAGE_FIELDS
from transforms.clients.decode import Matrix
from transforms.core.mean_vector import Vector, mean_vector
from transforms.engine.prepare import PreparedUnit
from transforms.engine.text_items import Passage, sent_hash


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class WrittenRows:
    """What is written, an entry a row."""

    offsets: list[int]
    """Of the unit's row that it belongs to, ascending."""
    vectors: Matrix
    hashes: list[bytes]
    truncated: list[bool | None]
    columns: dict[str, pa.Array]
    """More columns, of passages only: their places, and their text where the text is kept."""


def passage_rows(
    prepared: PreparedUnit,
    kept: Sequence[int],
    vectors: Matrix,
    truncated: Sequence[bool | None],
    job: JobConfig,
) -> WrittenRows:
    """A row for each passage of the kept rows.

    Args:
        prepared: the unit.
        kept: offsets of the rows that have all of their vectors.
        vectors: by distinct text, not by row.
        truncated: the same.
        job: which columns are kept.
    """
    offsets, numbers, passages = [], [], []
    for offset in kept:
        for number, passage in enumerate(prepared.passages[offset]):
            offsets.append(offset)
            numbers.append(number)
            passages.append(passage)
    items = [passage.item for passage in passages]
    places = (numbers, [one.start for one in passages], [one.end for one in passages])
    columns = {
        field.name: pa.array(column, field.type)
        for field, column in zip(PASSAGE_FIELDS, places, strict=True)
    }
    name, texts = job.columns.text_column, prepared.rows.texts
    if name in job.row_schema.names:
        cut = [
            (texts[offset] or "")[one.start : one.end]
            for offset, one in zip(offsets, passages, strict=True)
        ]
        columns[name] = pa.array(cut, job.row_schema.field(name).type)
    return WrittenRows(
        offsets,
        _taken(vectors, items),
        [prepared.hashes[item] for item in items],
        [truncated[item] for item in items],
        columns,
    )


def whole_rows(
    prepared: PreparedUnit,
    kept: Sequence[int],
    vectors: Matrix,
    truncated: Sequence[bool | None],
    means: Mapping[int, Vector | None],
    job: JobConfig,
) -> WrittenRows:
    """A row for each of the kept rows: its text's vector, or the mean of those of its passages.

    Args:
        prepared: the unit.
        kept: offsets of the rows that have all of their vectors.
        vectors: by distinct text, not by row.
        truncated: the same.
        means: of the rows that have several passages, by their offsets.
        job: how a text would be sent if it were not cut: its hash is of that.
    """
    run, passages = prepared.rows, [prepared.passages[offset] for offset in kept]
    items = [row[0].item for row in passages]
    hashes = [prepared.hashes[item] for item in items]
    found = vectors[items] if means else _taken(vectors, items)
    for at, offset in enumerate(kept):
        mean = means.get(offset)
        if mean is not None:
            found[at] = mean
            hashes[at] = sent_hash(job.embedding, run.titles[offset], run.texts[offset] or "")
    flags = [_any_cut([truncated[passage.item] for passage in row]) for row in passages]
    return WrittenRows(list(kept), found, hashes, flags, {})


def mean_of(vectors: Matrix, passages: Sequence[Passage]) -> Vector | None:
    """The mean of the passages' vectors, weighted by their characters, of length 1.

    None where they cancel each other out.
    """
    items = [passage.item for passage in passages]
    return mean_vector(vectors, items, [passage.end - passage.start for passage in passages])


def _any_cut(flags: Sequence[bool | None]) -> bool | None:
    """Whether the service cut anything of a text; None where that cannot be known."""
    return True if True in flags else None if None in flags else False


def _taken(vectors: Matrix, items: Sequence[int]) -> Matrix:
    """The vectors of the items; the same array where these are all, in their order."""
    whole = len(items) == len(vectors) and list(items) == list(range(len(items)))
    rows: Matrix = vectors if whole else vectors[list(items)]
    return rows
