"""The tables of a unit: rows with their vectors, and rows that were given up on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from schemas.embedding import LongText
from schemas.job import JobConfig
from schemas.tables import TEXT_HASH_TYPE, dead_letters_schema, part_metadata, vectors_schema
from transforms.clients.decode import Matrix
from transforms.core.mean_vector import Vector
from transforms.engine.prepare import DeadRow, PreparedUnit
from transforms.engine.written_rows import mean_of, passage_rows, whole_rows


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
