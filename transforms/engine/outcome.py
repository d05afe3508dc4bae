"""What became of a unit's texts: answers in, finished prefix and tables out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.deadletters import DeadCode
from schemas.errors import CallError
from schemas.job import JobConfig
from schemas.tables import TEXT_HASH_TYPE, dead_letters_schema, vectors_schema
from schemas.units import CallCounts, Unit, UnitRecord, count_codes
from transforms.clients.decode import Answer, Matrix
from transforms.core.packing import TextItem
from transforms.engine.prepare import DeadRow, PreparedUnit, rows_of_items
from transforms.storage.dataset import UnitTables

UNIT_LENGTH_TOLERANCE = 1e-5


class UnitOutcome:
    """The fate of each text of a unit; the sink that the caller writes to."""

    def __init__(self, prepared: PreparedUnit, job: JobConfig) -> None:
        self._prepared = prepared
        self._job = job
        self._vectors: Matrix | None = None
        self._has_vector = np.zeros(len(prepared.items), dtype=bool)
        self._truncated: list[bool | None] = [None] * len(prepared.items)
        self._dead: dict[int, DeadRow] = {}
        self._rows_of = rows_of_items(prepared)
        self.calls = self.retried = self.tokens = 0

    def embedded(self, items: Sequence[TextItem], answer: Answer, attempts: int) -> None:
        """Writes down the vectors of one answered call."""
        if self._vectors is None:
            shape = (len(self._prepared.items), answer.vectors.shape[1])
            self._vectors = np.empty(shape, dtype=np.float32)
        where = [item.index for item in items]
        self._vectors[where] = self._to_unit_length(answer.vectors)
        self._has_vector[where] = True
        flags = answer.truncated or (None,) * len(items)
        most = self._job.embedding.spec.max_tokens
        for item, flag in zip(items, flags, strict=True):
            surely_whole = flag is None and len(item.text.encode()) <= most
            self._truncated[item.index] = False if surely_whole else flag
        self.calls += 1
        self.retried += attempts - 1
        self.tokens += (
            sum(item.tokens for item in items) if answer.tokens is None else answer.tokens
        )

    def dead(self, item: TextItem, code: DeadCode, error: CallError, attempts: int) -> None:
        """Writes down that a text is given up on."""
        first = self._rows_of[item.index][0]
        self._dead[item.index] = DeadRow(first, code, error.message, error.http_status, attempts)

    def finished_rows(self) -> int:
        """The length of the longest prefix of rows that all have their fate."""
        for offset, index in enumerate(self._prepared.item_of):
            if index >= 0 and not self._has_vector[index] and index not in self._dead:
                return offset
        return len(self._prepared.item_of)

    def finish(self) -> tuple[UnitRecord, UnitTables] | None:
        """Record and tables of the finished prefix; None where not one row is finished."""
        rows = self.finished_rows()
        if rows == 0:
            return None
        kept = [
            offset
            for offset in range(rows)
            if (index := self._prepared.item_of[offset]) >= 0 and self._has_vector[index]
        ]
        dead = self._dead_rows(rows)
        codes = [row.code for row in dead]
        unit = dataclasses.replace(self._prepared.unit, rows=rows)
        skipped = sum(code.is_skip for code in codes)
        record = UnitRecord(
            unit=unit,
            embedded=len(kept),
            dead=len(dead) - skipped,
            skipped=skipped,
            source_file=self._prepared.source_file,
            run_id=self._job.run_id,
            codes=count_codes(codes),
            counts=self._counts(kept),
        )
        return record, UnitTables(self._vector_table(kept, unit), self._dead_table(dead, unit))

    def _counts(self, kept: Sequence[int]) -> CallCounts:
        texts = int(self._has_vector.sum())
        distinct = len({self._prepared.item_of[offset] for offset in kept})
        return CallCounts(self.calls, self.retried, texts, self.tokens, len(kept) - distinct)

    def _dead_rows(self, rows: int) -> list[DeadRow]:
        found = [row for row in self._prepared.dead if row.offset < rows]
        for index, row in self._dead.items():
            found.extend(
                dataclasses.replace(row, offset=offset)
                for offset in self._rows_of[index]
                if offset < rows
            )
        return sorted(found, key=lambda row: row.offset)

    def _to_unit_length(self, vectors: Matrix) -> Matrix:
        if not self._job.embedding.normalize:
            return vectors
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        if np.abs(norms - 1).max() <= UNIT_LENGTH_TOLERANCE:
            return vectors
        scaled: Matrix = (vectors / norms[:, None]).astype(np.float32)
        return scaled

    def _vector_table(self, offsets: Sequence[int], unit: Unit) -> pa.Table | None:
        if self._vectors is None or not offsets:
            return None
        run, prepared = self._prepared.rows, self._prepared
        schema = vectors_schema(
            self._job.row_schema,
            self._vectors.shape[1],
            self._job.output.vector_type,
            part_metadata(self._job, self._vectors.shape[1]),
        )
        items = [prepared.item_of[offset] for offset in offsets]
        where = pa.array(offsets, pa.int64())
        columns = {
            "id": run.ids.take(where),
            "vector": self._vector_column(items, schema.field("vector").type),
            "text_hash": pa.array([prepared.hashes[i] for i in items], TEXT_HASH_TYPE),
            "truncated": pa.array([self._truncated[i] for i in items], pa.bool_()),
            **_source(prepared.source_file, unit, offsets),
        }
        for name in run.kept.column_names:
            columns[name] = run.kept.column(name).take(where)
        return pa.table([columns[name] for name in schema.names], schema=schema)

    def _vector_column(self, items: Sequence[int], kind: pa.DataType) -> pa.Array:
        assert self._vectors is not None
        whole = len(items) == len(self._vectors) and list(items) == list(range(len(items)))
        rows: npt.NDArray[np.float32] = self._vectors if whole else self._vectors[list(items)]
        numbers = rows.astype(np.float16) if kind.value_type == pa.float16() else rows
        flat = pa.array(numbers.reshape(-1), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)

    def _dead_table(self, dead: Sequence[DeadRow], unit: Unit) -> pa.Table | None:
        if not dead:
            return None
        run = self._prepared.rows
        offsets = [row.offset for row in dead]
        schema = dead_letters_schema(self._job.row_schema, part_metadata(self._job, None))
        columns = {
            "id": run.ids.take(pa.array(offsets, pa.int64())),
            **_source(self._prepared.source_file, unit, offsets),
            "code": pa.array([str(row.code) for row in dead]),
            "message": pa.array([row.message for row in dead]),
            "http_status": pa.array([row.http_status for row in dead], pa.int32()),
            "attempts": pa.array([row.attempts for row in dead], pa.int32()),
            "text": pa.array([run.texts[offset] for offset in offsets], pa.string()),
        }
        return pa.table([columns[name] for name in schema.names], schema=schema)


def _source(source_file: str, unit: Unit, offsets: Sequence[int]) -> dict[str, pa.Array]:
    return {
        "source_file": pa.array([source_file] * len(offsets), pa.string()),
        "source_row": pa.array([unit.first_row + offset for offset in offsets], pa.int64()),
    }


def part_metadata(job: JobConfig, dim: int | None) -> dict[str, str]:
    """What stands in the footer of each part; `dim` None for dead letters."""
    embedding = job.embedding
    facts = {
        "version": job.version,
        "digest": embedding.digest,
        "service": embedding.service,
        "model": embedding.spec.name,
        "task_type": str(embedding.task_type),
        "prefix": embedding.prefix or "",
        "normalized": str(embedding.normalize).lower(),
        **({"dim": str(dim)} if dim is not None else {}),
    }
    return {f"bulkembed.{name}": value for name, value in facts.items()}
