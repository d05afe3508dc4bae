"""The tables of a unit: rows with their vectors, and rows that were given up on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from bulkembed.schemas.embedding import LongText
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.tables import (
    PASSAGE_FIELDS,
    TEXT_HASH_TYPE,
    dead_letters_schema,
    part_metadata,
    vectors_schema,
)
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.vectors import Matrix, Vector, mean_vector
from bulkembed.transforms.units.contents import Passage
from bulkembed.transforms.units.prepare import DeadRow, PreparedUnit


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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class TableMaker:
    """Makes the tables of one unit; `offsets` are those of rows in the unit, ascending."""

    job: JobConfig
    prepared: PreparedUnit

    def means(self, offsets: Sequence[int], vectors: Matrix) -> dict[int, Vector | None]:
        """The vectors of rows that have several passages and are written as one; see `mean_of`."""
        if self.job.embedding.long_text is not LongText.MEAN:
            return {}
        rows = {offset: self.prepared.passages[offset] for offset in offsets}
        return {offset: mean_of(vectors, row) for offset, row in rows.items() if len(row) > 1}

    def vectors(
        self,
        offsets: Sequence[int],
        vectors: Matrix,
        truncated: Sequence[bool | None],
        means: Mapping[int, Vector | None],
    ) -> pa.Table:
        """The rows with vectors; `vectors` and `truncated` are by distinct text, not by row."""
        run, dim, embedding = self.prepared.rows, vectors.shape[1], self.job.embedding
        if embedding.rows_are_passages:
            written = passage_rows(self.prepared, offsets, vectors, truncated, self.job)
        else:
            written = whole_rows(self.prepared, offsets, vectors, truncated, means, self.job)
        schema = vectors_schema(
            self.job.row_schema,
            dim,
            self.job.output.vector_type,
            part_metadata(embedding, self.job.version, dim),
            passages=embedding.rows_are_passages,
        )
        where = pa.array(written.offsets, pa.int64())
        columns = {
            "id": run.ids.take(where),
            **written.columns,
            "vector": _vector_column(written.vectors, schema.field("vector").type),
            "text_hash": pa.array(written.hashes, TEXT_HASH_TYPE),
            "truncated": pa.array(written.truncated, pa.bool_()),
            **self._source(written.offsets),
        }
        for name in run.kept.column_names:
            if name not in columns:
                columns[name] = run.kept.column(name).take(where)
        return pa.table([columns[name] for name in schema.names], schema=schema)

    def dead_letters(self, dead: Sequence[DeadRow]) -> pa.Table:
        """The rows that were given up on."""
        run = self.prepared.rows
        offsets = [row.offset for row in dead]
        metadata = part_metadata(self.job.embedding, self.job.version, None)
        schema = dead_letters_schema(self.job.row_schema, metadata)
        columns = {
            "id": run.ids.take(pa.array(offsets, pa.int64())),
            **self._source(offsets),
            "code": pa.array([str(row.code) for row in dead]),
            "message": pa.array([row.message for row in dead]),
            "http_status": pa.array([row.http_status for row in dead], pa.int32()),
            "attempts": pa.array([row.attempts for row in dead], pa.int32()),
            "text": pa.array([run.texts[offset] for offset in offsets], pa.string()),
        }
        return pa.table([columns[name] for name in schema.names], schema=schema)

    def _source(self, offsets: Sequence[int]) -> dict[str, pa.Array]:
        first = self.prepared.unit.first_row
        return {
            "source_file": pa.array([self.prepared.source_file] * len(offsets), pa.string()),
            "source_row": pa.array([first + offset for offset in offsets], pa.int64()),
        }


def _vector_column(rows: Matrix, kind: pa.DataType) -> pa.Array:
    numbers = rows.astype(np.float16) if kind.value_type == pa.float16() else rows
    flat = pa.array(numbers.reshape(-1), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)
