"""The tables of a unit: rows with their vectors, and rows that were given up on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.job import JobConfig
from schemas.tables import TEXT_HASH_TYPE, dead_letters_schema, part_metadata, vectors_schema
from transforms.clients.decode import Matrix
from transforms.engine.prepare import DeadRow, PreparedUnit


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class TableMaker:
    """Makes the tables of one unit; `offsets` are those of rows in the unit, ascending."""

    job: JobConfig
    prepared: PreparedUnit

    def vectors(
        self, offsets: Sequence[int], vectors: Matrix, truncated: Sequence[bool | None]
    ) -> pa.Table:
        """The rows with vectors; `vectors` and `truncated` are by distinct text, not by row."""
        run, prepared = self.prepared.rows, self.prepared
        dim = vectors.shape[1]
        schema = vectors_schema(
            self.job.row_schema,
            dim,
            self.job.output.vector_type,
            part_metadata(self.job.embedding, self.job.version, dim),
        )
        items = [prepared.passages[offset][0].item for offset in offsets]
        where = pa.array(offsets, pa.int64())
        columns = {
            "id": run.ids.take(where),
            "vector": _vector_column(vectors, items, schema.field("vector").type),
            "text_hash": pa.array([prepared.hashes[i] for i in items], TEXT_HASH_TYPE),
            "truncated": pa.array([truncated[i] for i in items], pa.bool_()),
            **self._source(offsets),
        }
        for name in run.kept.column_names:
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


def _vector_column(vectors: Matrix, items: Sequence[int], kind: pa.DataType) -> pa.Array:
    whole = len(items) == len(vectors) and list(items) == list(range(len(items)))
    rows: Matrix = vectors if whole else vectors[list(items)]
    numbers = rows.astype(np.float16) if kind.value_type == pa.float16() else rows
    flat = pa.array(numbers.reshape(-1), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)
