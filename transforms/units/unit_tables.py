"""The tables of a unit: its rows with vectors, and its dead letters."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from bulkembed.schemas.embedding import LongText
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.output_schema import (
    MEDIA_FIELD,
    PASSAGE_FIELDS,
    PIECE_FIELDS,
    PROVENANCE_FIELDS,
    SOURCE_HASH_FIELD,
    TEXT_HASH_TYPE,
    dead_letters_schema,
    part_metadata,
    vectors_schema,
)
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.vectors import Matrix, Vector
from bulkembed.transforms.units.distinct_contents import RowFailure
from bulkembed.transforms.units.prepare import PreparedUnit
from bulkembed.transforms.units.text_vectors import TextVectors


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class TableMaker:
    """Makes the tables of one unit; `offsets` are those of rows in the unit, ascending."""

    job: JobConfig
    prepared: PreparedUnit

    def means(self, offsets: Sequence[int], vectors: TextVectors) -> dict[int, Vector | None]:
        """Return the vectors of rows that are written as the mean of several passages."""
        if self.job.embedding.long_text is not LongText.MEAN:
            return {}
        rows = {offset: self.prepared.passages[offset] for offset in offsets}
        return {offset: vectors.mean(row) for offset, row in rows.items() if len(row) > 1}

    def vectors(
        self, offsets: Sequence[int], vectors: TextVectors, means: Mapping[int, Vector | None]
    ) -> pa.Table:
        """Return the table of rows with vectors."""
        rows, dim, embedding = self.prepared.rows, vectors.matrix.shape[1], self.job.embedding
        if embedding.rows_are_passages:
            written = _passage_rows(self.prepared, offsets, vectors, self.job)
        else:
            written = _whole_rows(self.prepared, offsets, vectors, means, self.job)
        schema = vectors_schema(
            self.job.row_schema,
            dim,
            self.job.output.vector_type,
            part_metadata(embedding, self.job.version, dim),
            passages=embedding.rows_are_passages,
            id_name=self.job.columns.id_name,
            provenance=self.job.output.provenance,
            media=bool(self.job.columns.content),
            synced=self.job.sync,
        )
        where = pa.array(written.offsets, pa.int64())
        columns = {
            self.job.columns.id_name: rows.ids.take(where),
            **written.columns,
            "vector": _vector_column(written.vectors, schema.field("vector").type),
            "text_hash": pa.array(written.hashes, TEXT_HASH_TYPE),
            "truncated": pa.array(written.truncated, pa.bool_()),
            **self._source(written.offsets),
            **self._media(written.offsets),
            **self._provenance(len(written.offsets)),
        }
        for name in rows.kept.column_names:
            if name not in columns:
                columns[name] = rows.kept.column(name).take(where)
        return pa.table([columns[name] for name in schema.names], schema=schema)

    def dead_letters(self, failed: Mapping[int, RowFailure]) -> pa.Table:
        """Return the table of dead letters.

        Args:
            failed: why each row failed, by offset, ascending.
        """
        rows, offsets, failures = self.prepared.rows, list(failed), failed.values()
        metadata = part_metadata(self.job.embedding, self.job.version, None)
        id_name = self.job.columns.id_name
        schema = dead_letters_schema(
            self.job.row_schema, metadata, id_name=id_name, hashes=self.job.sync
        )
        columns = {
            id_name: rows.ids.take(pa.array(offsets, pa.int64())),
            **self._source(offsets),
            "code": pa.array([str(failure.code) for failure in failures]),
            "message": pa.array([failure.message for failure in failures]),
            "http_status": pa.array([failure.http_status for failure in failures], pa.int32()),
            "attempts": pa.array([failure.attempts for failure in failures], pa.int32()),
            "text": pa.array([rows.texts[offset] for offset in offsets], pa.string()),
            "text_hash": pa.array(map(self._letter_hash, offsets), TEXT_HASH_TYPE),
        }
        return pa.table([columns[name] for name in schema.names], schema=schema)

    def _letter_hash(self, offset: int) -> bytes | None:
        """Return the hash of a row's whole text; None if the row cannot be sent.

        Of a row with media, it is what identifies the row in the input, also if its files are bad.
        """
        if self.prepared.source_hashes is not None:
            return self.prepared.source_hashes[offset]
        rows, text = self.prepared.rows, self.prepared.rows.texts[offset]
        if text is None or offset in self.prepared.failed:
            return None
        return sent_hash(self.job.embedding, rows.titles[offset], text)

    def _media(self, offsets: Sequence[int]) -> dict[str, pa.Array]:
        media = self.prepared.media
        if media is None:
            return {}
        rows = [
            [(one.kind, one.mime_type, one.size_bytes, one.uri) for one in media[offset]]
            for offset in offsets
        ]
        columns = {MEDIA_FIELD.name: pa.array(rows, MEDIA_FIELD.type)}
        hashes = self.prepared.source_hashes
        if hashes is not None:
            found = [hashes[offset] for offset in offsets]
            columns[SOURCE_HASH_FIELD.name] = pa.array(found, SOURCE_HASH_FIELD.type)
        return columns

    def _provenance(self, rows: int) -> dict[str, pa.Array]:
        if not self.job.output.provenance:
            return {}
        now = dt.datetime.now(dt.UTC)
        values = (self.job.run_id, now)
        return {
            field.name: pa.repeat(pa.scalar(value, field.type), rows)
            for field, value in zip(PROVENANCE_FIELDS, values, strict=True)
        }

    def _source(self, offsets: Sequence[int]) -> dict[str, pa.Array]:
        sources = self.prepared.rows.sources
        if sources is not None:
            taken = sources.take(pa.array(offsets, pa.int64()))
            return {"source_file": taken.files, "source_row": taken.rows}
        first = self.prepared.unit.first_row
        return {
            "source_file": pa.array([self.prepared.source_file] * len(offsets), pa.string()),
            "source_row": pa.array([first + offset for offset in offsets], pa.int64()),
        }


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _WrittenRows:
    """Rows to write, with an entry for each in every field."""

    offsets: list[int]
    """The offset of the unit's row that it belongs to, ascending."""
    vectors: Matrix
    hashes: list[bytes]
    truncated: list[bool | None]
    columns: dict[str, pa.Array]
    """Further columns of passages: their places, and their texts if these are kept."""


def _passage_rows(
    prepared: PreparedUnit, embedded: Sequence[int], vectors: TextVectors, job: JobConfig
) -> _WrittenRows:
    """Return a row for each passage of the embedded rows.

    Args:
        prepared: the unit.
        embedded: the offsets of the rows that have all of their vectors.
        vectors: the vectors of the distinct texts.
        job: which columns are kept.
    """
    offsets, numbers, passages = [], [], []
    for offset in embedded:
        for number, passage in enumerate(prepared.passages[offset]):
            offsets.append(offset)
            numbers.append(number)
            passages.append(passage)
    items = [passage.item for passage in passages]
    fields = PASSAGE_FIELDS if prepared.media is None else PIECE_FIELDS
    # A row with media that was not cut has no places.
    cut = [prepared.media is None or one.end > 0 for one in passages]
    places = (
        numbers,
        [one.start if c else None for one, c in zip(passages, cut, strict=True)],
        [one.end if c else None for one, c in zip(passages, cut, strict=True)],
    )
    columns = {
        field.name: pa.array(column, field.type)
        for field, column in zip(fields, places, strict=True)
    }
    name, texts = job.columns.text_column, prepared.rows.texts
    if name in job.row_schema.names:
        kept = [
            (texts[offset] or "")[int(one.start) : int(one.end)]
            for offset, one in zip(offsets, passages, strict=True)
        ]
        columns[name] = pa.array(kept, job.row_schema.field(name).type)
    return _WrittenRows(
        offsets,
        _rows_of(vectors.matrix, items),
        [prepared.items[item].hash for item in items],
        [vectors.truncated[item] for item in items],
        columns,
    )


def _whole_rows(
    prepared: PreparedUnit,
    embedded: Sequence[int],
    vectors: TextVectors,
    means: Mapping[int, Vector | None],
    job: JobConfig,
) -> _WrittenRows:
    """Return a row for each embedded row: the vector of its text, or the mean of its passages.

    Args:
        prepared: the unit.
        embedded: the offsets of the rows that have all of their vectors.
        vectors: the vectors of the distinct texts.
        means: the means of the rows with several passages, by offset; their hash is that of the
            whole text.
        job: how a text is sent.
    """
    rows, passages = prepared.rows, [prepared.passages[offset] for offset in embedded]
    items = [row[0].item for row in passages]
    hashes = [prepared.items[item].hash for item in items]
    found = vectors.matrix[items] if means else _rows_of(vectors.matrix, items)
    for at, offset in enumerate(embedded):
        mean = means.get(offset)
        if mean is not None:
            found[at] = mean
            hashes[at] = sent_hash(job.embedding, rows.titles[offset], rows.texts[offset] or "")
    flags = [_any_cut([vectors.truncated[passage.item] for passage in row]) for row in passages]
    return _WrittenRows(list(embedded), found, hashes, flags, {})


def _any_cut(flags: Sequence[bool | None]) -> bool | None:
    """Return whether the service cut any passage of a text; None if unknown."""
    return True if True in flags else None if None in flags else False


def _rows_of(vectors: Matrix, items: Sequence[int]) -> Matrix:
    """Return rows of a matrix; the matrix itself if these are all its rows in order."""
    is_whole = len(items) == len(vectors) and list(items) == list(range(len(items)))
    rows: Matrix = vectors if is_whole else vectors[list(items)]
    return rows


def _vector_column(rows: Matrix, kind: pa.DataType) -> pa.Array:
    numbers = rows.astype(np.float16) if kind.value_type == pa.float16() else rows
    flat = pa.array(numbers.reshape(-1), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)
