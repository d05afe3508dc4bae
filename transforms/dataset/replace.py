"""Replace the parts of a committed unit by copies without some of their rows."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.job import RunStamp, VectorEncoding
from bulkembed.schemas.output_schema import REMOVED_KEY
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.atomic_files import FileContent
from bulkembed.transforms.dataset.commit import write_committed
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import DEAD_LETTERS, UNITS, VECTORS, part_name, record_name
from bulkembed.transforms.dataset.records import RecordParts

RowNumbers = npt.NDArray[np.int64]
"""Rows of the parts of a unit in one folder, counted from 0 over these parts in their order."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """The rows of parts that stay."""

    parts: tuple[str, ...]
    mask: npt.NDArray[np.bool_]
    """For each row of the parts whether it stays."""
    removed: int
    """Input rows that do not stay."""
    codes: collections.Counter[str]
    """The rows that stay by the code of their dead letter."""

    @property
    def count(self) -> int:
        """Rows of the parts that stay."""
        return int(np.count_nonzero(self.mask))


def replace_rows(
    dataset: Dataset,
    run: RunStamp,
    record: UnitRecord,
    drop_vectors: RowNumbers,
    drop_dead: RowNumbers,
    check_ownership: Callable[[], None] | None = None,
) -> UnitRecord | None:
    """Write copies of a unit's parts without some rows, and commit them as its next generation.

    The copies are written before the record that names them, and the old record and parts are
    deleted last, so a killed process leaves the old rows or the new ones.

    Args:
        dataset: the dataset.
        run: the run that removes the rows.
        record: the commit record of the unit.
        drop_vectors: rows of its vector parts to remove; all passages of an input row, or none.
        drop_dead: rows of its dead letters to remove.
        check_ownership: as in `commit_unit`.

    Returns:
        The new record.  The same record if no row is to be removed.  None if no row is left: then
        the unit is withdrawn.

    Raises:
        OutputError: a part cannot be read or written; the old record still counts.
        OutputTaken: another run has taken over the dataset.
    """
    record = dataset.read_record(record)
    if not len(drop_vectors) and not len(drop_dead):
        return record
    parts = RecordParts.of(record)
    vectors = _kept(dataset, parts.vectors, drop_vectors)
    dead = _kept(dataset, parts.dead_letters, drop_dead)
    if not vectors.count and not dead.count:
        if check_ownership is not None:
            check_ownership()
        dataset.withdraw([record])
        return None
    skipped = sum(rows for code, rows in dead.codes.items() if DeadCode(code).is_skip)
    committed = _write_copies(
        dataset,
        run,
        dataclasses.replace(
            record,
            embedded=record.embedded - vectors.removed,
            dead=dead.count - skipped,
            skipped=skipped,
            generation=record.generation + 1,
            run_id=run.run_id,
            codes=tuple(sorted((DeadCode(code), rows) for code, rows in dead.codes.items())),
            vectors=vectors.count,
            run_number=run.run_number,
            embedding_digest=run.embedding_digest,
            removed=record.removed + vectors.removed + dead.removed,
        ),
        vectors,
        dead,
    )
    write_committed(dataset, committed, check_ownership)
    named = RecordParts.of(committed).all
    old = [part for part in parts.all if part not in named]
    dataset.delete([f"{UNITS}/{record_name(record)}", *old])
    return committed


def _kept(dataset: Dataset, parts: tuple[str, ...], drop: RowNumbers) -> _Kept:
    """Return which rows stay; only small columns are read."""
    masks = []
    codes: collections.Counter[str] = collections.Counter()
    removed = first = 0
    for name in parts:
        opened = part_files.open_part(dataset, name)
        mask = np.ones(opened.metadata.num_rows, bool)
        mask[drop[(drop >= first) & (drop < first + len(mask))] - first] = False
        first += len(mask)
        masks.append(mask)
        if part_files.holds_passages(opened.schema_arrow):
            column = part_files.read_columns(dataset, name, ["passage"])["passage"].to_numpy()
            removed += int(np.count_nonzero((column == 0) & ~mask))
        else:
            removed += int(np.count_nonzero(~mask))
        if name.startswith(f"{DEAD_LETTERS}/"):
            left = part_files.read_columns(dataset, name, ["code"])["code"].filter(pa.array(mask))
            codes.update({c["values"]: c["counts"] for c in pc.value_counts(left).to_pylist()})
    kept = _Kept(parts, np.concatenate([np.empty(0, bool), *masks]), removed, codes)
    if kept.count != len(kept.mask) - len(drop):
        raise ValueError(f"not distinct rows of {', '.join(parts) or 'a missing part'}: {drop}")
    return kept


def _write_copies(
    dataset: Dataset, run: RunStamp, record: UnitRecord, vectors: _Kept, dead: _Kept
) -> UnitRecord:
    """Write the parts of a record of which a row was removed; return the record with their names.

    Parts of which no row was removed stay.
    """
    name = part_name(record)
    vector_parts, dead_part = record.vector_parts, record.dead_part
    if vectors.removed:
        vector_parts = (name,) if vectors.count else ()
    if dead.removed:
        dead_part = name if dead.count else None
    record = dataclasses.replace(record, vector_parts=vector_parts, dead_part=dead_part)
    for folder, kept, encoding in (
        (VECTORS, vectors, run.vector_encoding),
        (DEAD_LETTERS, dead, VectorEncoding.PLAIN),
    ):
        if kept.removed and kept.count:
            dataset.write(f"{folder}/{name}", _copy(dataset, kept, record.removed, encoding))
    size = dataset.size_of(RecordParts.of(record).all)
    return dataclasses.replace(record, part_bytes=size)


def _copy(dataset: Dataset, kept: _Kept, removed: int, encoding: VectorEncoding) -> FileContent:
    schema = part_files.open_part(dataset, kept.parts[0]).schema_arrow
    footer = {**(schema.metadata or {}), REMOVED_KEY.encode(): str(removed).encode()}

    def write(stream: pa.NativeFile) -> None:
        blocks = _rows_that_stay(dataset, kept.parts, kept.mask)
        part_files.write_row_groups(stream, blocks, schema.with_metadata(footer), encoding)

    return write


def _rows_that_stay(
    dataset: Dataset, parts: Sequence[str], mask: npt.NDArray[np.bool_]
) -> Iterator[pa.RecordBatch]:
    first = 0
    for name in parts:
        for block in part_files.read_blocks(part_files.open_part(dataset, name), name):
            here = mask[first : first + block.num_rows]
            first += block.num_rows
            yield block if here.all() else block.filter(pa.array(here))
