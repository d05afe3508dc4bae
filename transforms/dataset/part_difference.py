"""The difference of two states of a dataset, by id: only parts that are in one of them are read.

Rows are compared in partitions by their ids, so the memory does not grow with the number of rows.
Equal ids are compared together: an id is changed if its rows are not the same multiset, and all of
its new rows are in the feed. A row that has moved to another part is not in it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bulkembed.schemas.errors import OutputError
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.id_index import IdIndex, IdIndexWriter, without
from bulkembed.transforms.dataset.partitioned_rows import PartitionedRows, Rows, partitions_for
from bulkembed.transforms.dataset.row_keys import column_keys, id_keys
from bulkembed.transforms.dataset.unnamed_file import zeros_on_disk

log = logging.getLogger("bulkembed")

ADDED, CHANGED, DELETED = "added", "changed", "deleted"
_CODES = {1: (ADDED, True), 2: (CHANGED, True), 3: (CHANGED, False), 4: (DELETED, True)}
"""What the status of a row means: the change, and whether the vector has changed."""
_ADDED, _CHANGED, _COLUMNS_CHANGED, _DELETED = _CODES

_ROW = np.dtype(
    [("key", "<u8"), ("key2", "<u8"), ("content", "<u8"), ("columns", "<u8"), ("row", "<u8")]
)
"""A row: the key of its id, of its vector and of its kept columns, and its number."""
BLOCK_ROWS = 8192
READ_THREADS = 4
"""Parts to read at once."""
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")
_IS_NEW = np.uint64(1 << 63)
_IS_FIRST = np.uint64(1 << 62)
"""Set if the row is the first passage of its input row, or no passage."""
_ODD = np.uint64(0x9E3779B97F4A7C15)

U64 = npt.NDArray[np.uint64]
Statuses = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, slots=True)
class ChangeCounts:
    """The number of ids by change."""

    added: int = 0
    changed: int = 0
    deleted: int = 0

    @property
    def total(self) -> int:
        """All ids with a change."""
        return self.added + self.changed + self.deleted

    def __add__(self, other: ChangeCounts) -> ChangeCounts:
        return ChangeCounts(
            self.added + other.added, self.changed + other.changed, self.deleted + other.deleted
        )


_OWN = ("passage", "change", "vector_changed", "part", "row", "text_hash")


def feed_id(part: pa.Schema) -> str:
    """Return the name of the ids in a change feed: that of the dataset, unless it is taken."""
    name = part_files.id_name(part)
    return "id" if name in _OWN else name


def feed_schema(part: pa.Schema, metadata: dict[str, str]) -> pa.Schema:
    """Return the schema of a change feed.

    The columns are id, `passage` if the rows are passages, change, vector_changed, part, row and
    text_hash. The last three, and the passage, are null for a deleted id.
    """
    passage = [pa.field("passage", pa.int32())] if part_files.holds_passages(part) else []
    return pa.schema(
        [
            pa.field(feed_id(part), part.field(part_files.id_name(part)).type, nullable=False),
            *passage,
            pa.field("change", pa.dictionary(pa.int8(), pa.string()), nullable=False),
            pa.field("vector_changed", pa.bool_(), nullable=False),
            pa.field("part", pa.dictionary(pa.int32(), pa.string())),
            pa.field("row", pa.int64()),
            pa.field("text_hash", part.field("text_hash").type),
        ],
        metadata=metadata,
    )


class PartDifference:
    """The rows of parts that were removed from a state, and of those that were added to it.

    Each part is read once; what the feed needs of it is kept in a temporary file.

    Args:
        dataset: the dataset.
        removed: names of parts of the old state alone.
        added: names of parts of the new state alone.
        kept: the kept columns, which are compared.
        folder: a folder on a local disk for temporary files.
        rows: about how many rows the two states have together.
        sizes: the bytes of parts, as far as they are known.
        unchanged: names of parts of both states. They are read only for ids that are in other
            parts as well, or if there is no index.
        index: the ids of the old state; None if it is not known.
        unique: whether ids are known to be unique; then neither of the two is used.

    Raises:
        OutputError: a part cannot be read, or the disk is full.
        InconsistentIndexError: the index is not that of the old state.
    """

    def __init__(
        self,
        dataset: Dataset,
        removed: Sequence[str],
        added: Sequence[str],
        kept: Sequence[str],
        folder: Path,
        *,
        rows: int = 0,
        sizes: Mapping[str, int] | None = None,
        unchanged: Sequence[str] = (),
        index: IdIndex | None = None,
        unique: bool = False,
    ) -> None:
        self.rows: dict[str, int] = {}
        """The rows of each part."""
        self.group_rows: dict[str, tuple[int, ...]] = {}
        """The rows of each row group of each part."""
        self._dataset = dataset
        self._kept = kept
        self._sizes = sizes or {}
        self._spool = folder / "rows.arrow"
        self._blocks: list[tuple[str, int]] = []
        """The part and the first row of each batch in the spool."""
        self._schema: pa.Schema | None = None
        partitions = partitions_for(rows, _ROW.itemsize)
        with PartitionedRows(folder, _ROW, partitions) as compared:
            total = self._read_all(removed, frozenset(added), compared)
            self._status: Statuses = zeros_on_disk(folder, total)
            self.counts = ChangeCounts()
            self.ids = None if unique else IdIndexWriter(folder / "ids.keys")
            """The ids of the new state; None if they are unique."""
            self._unchanged = unchanged
            with PartitionedRows(folder, [("key", "<u8")], partitions) as others:
                if index is None and not unique:
                    self._read_unchanged(others)
                found = [
                    self._compare(compared.read(partition), partition, index, others)
                    for partition in range(partitions)
                ]
        self._elsewhere = np.concatenate(found)
        """Changed ids that have rows in unchanged parts, ascending: two keys and the status."""

    def schema(self, metadata: dict[str, str]) -> pa.Schema | None:
        """Return the schema of the feed; None if there is no part at all."""
        return None if self._schema is None else feed_schema(self._schema, metadata)

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the feed: deleted ids, then rows of added parts."""
        if self._schema is None:
            return
        with pa.ipc.open_stream(pa.OSFile(str(self._spool))) as spool:
            number = 0
            for (part, first), batch in zip(self._blocks, spool, strict=True):
                status = np.asarray(self._status[number : number + batch.num_rows])
                number += batch.num_rows
                rows = np.flatnonzero(status)
                if len(rows):
                    taken = batch.take(pa.array(rows))
                    yield _feed_rows(taken, status[rows], part, first + rows, schema)
        if len(self._elsewhere):
            for name in self._unchanged:
                yield from self._elsewhere_in(name, schema)

    def text_hashes(self) -> Iterator[tuple[str, Iterator[pa.ChunkedArray]]]:
        """Yield each part that was read, and the hashes of its rows in blocks."""
        if self._schema is None:
            return
        with pa.ipc.open_stream(pa.OSFile(str(self._spool))) as spool:
            blocks = zip(self._blocks, spool, strict=True)
            for name, some in itertools.groupby(blocks, key=lambda block: block[0][0]):
                yield name, (pa.chunked_array([batch.column("text_hash")]) for _, batch in some)

    def _elsewhere_in(self, name: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        part = part_files.open_sized_part(self._dataset, name, self._sizes.get(name))
        keys = self._elsewhere
        first = 0
        for block in part_files.read_blocks(part, name, _needed(part.schema_arrow), BLOCK_ROWS):
            ids = id_keys(block.column("id"))
            places = np.searchsorted(keys[:, 0], ids[:, 0])
            places[places == len(keys)] = 0
            rows = np.flatnonzero((keys[places, :2] == ids).all(axis=1))
            if len(rows):
                status = keys[places[rows], 2].astype(np.uint8)
                yield _feed_rows(block.take(pa.array(rows)), status, name, first + rows, schema)
            first += block.num_rows

    def _compare(
        self, rows: Rows, partition: int, index: IdIndex | None, others: PartitionedRows
    ) -> U64:
        """Set the status of the rows of one partition.

        Returns:
            The ids that are changed and have rows in unchanged parts as well.
        """
        unchanged = np.empty(0, np.uint64)
        if self.ids is not None:
            is_new = (rows["row"] & _IS_NEW) != 0
            is_first = (rows["row"] & _IS_FIRST) != 0
            if index is None:
                unchanged = np.sort(others.read(partition)["key"])
            else:
                width = (1 << 64) // others.partitions
                keys = index.between(partition * width, (partition + 1) * width)
                unchanged = without(keys, rows["key"][is_first & ~is_new])
            self.ids.add(np.sort(np.concatenate([unchanged, rows["key"][is_first & is_new]])))
        counts, elsewhere = _mark(rows, self._status, unchanged)
        self.counts += counts
        return elsewhere

    def _read_unchanged(self, others: PartitionedRows) -> None:
        with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
            for start in range(0, len(self._unchanged), 2 * READ_THREADS):
                some = self._unchanged[start : start + 2 * READ_THREADS]
                for keys in pool.map(self._first_keys, some):
                    others.add_columns(key=keys)

    def _first_keys(self, name: str) -> U64:
        keys = [np.empty(0, np.uint64)]
        try:
            part = part_files.open_sized_part(self._dataset, name, self._sizes.get(name))
            columns = part_files.with_passage_columns(part, ["id"])
            blocks = part_files.read_blocks(part, name, columns, BLOCK_ROWS)
            ids = (part_files.one_per_input_row(block).column("id") for block in blocks)
            keys += [id_keys(some)[:, 0] for some in ids]
        except OutputError as error:  # The run does not depend on this part.
            log.warning("the ids of %s are unknown: it %s", name, error.reason)
        return np.concatenate(keys)

    def _read_all(
        self, removed: Sequence[str], added: frozenset[str], rows: PartitionedRows
    ) -> int:
        """Read the parts, and return the number of their rows."""
        total = 0
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(READ_THREADS))
            spool: pa.RecordBatchWriter | None = None
            schema = pa.schema([])
            names = (*removed, *sorted(added))
            for start in range(0, len(names), 2 * READ_THREADS):
                some = names[start : start + 2 * READ_THREADS]
                for name, read in zip(some, pool.map(self._read, some), strict=True):
                    if name in added or self._schema is None:
                        self._schema = read.schema
                    if spool is None:
                        schema = _spooled(read.schema)
                        file = stack.enter_context(pa.OSFile(str(self._spool), "wb"))
                        spool = stack.enter_context(pa.ipc.new_stream(file, schema, options=_LZ4))
                    first = 0
                    for keys, batch in read.blocks:
                        numbers = np.arange(total, total + len(keys), dtype=np.uint64)
                        keys["row"] |= numbers | _IS_NEW if name in added else numbers
                        rows.add(keys)
                        spool.write_batch(batch.cast(schema))
                        self._blocks.append((name, first))
                        first += len(keys)
                        total += len(keys)
                    self.rows[name] = first
                    self.group_rows[name] = read.group_rows
        return total

    def _read(self, name: str) -> _PartRead:
        part = part_files.open_sized_part(self._dataset, name, self._sizes.get(name))
        schema = part.schema_arrow
        kept = [column for column in self._kept if part_files.has_columns(schema, [column])]
        needed = _needed(schema)
        blocks = []
        for block in part_files.read_blocks(part, name, [*needed, *kept], BLOCK_ROWS):
            keys = np.empty(block.num_rows, _ROW)
            ids = id_keys(block.column("id"))
            keys["key"], keys["key2"] = ids[:, 0], ids[:, 1]
            keys["content"] = column_keys(block, needed[1:])
            keys["columns"] = column_keys(block, kept)
            keys["row"] = _IS_FIRST
            if "passage" in needed:
                keys["row"][block.column("passage").to_numpy() != 0] = 0
            blocks.append((keys, block.select(needed)))
        return _PartRead(schema, part_files.rows_of_groups(part), blocks)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _PartRead:
    schema: pa.Schema
    group_rows: tuple[int, ...]
    blocks: list[tuple[Rows, pa.RecordBatch]]
    """The keys of some rows, and what the feed needs of them."""


def _needed(part: pa.Schema) -> list[str]:
    """Return the columns that the feed needs of a part."""
    return ["id", "text_hash", *(["passage"] if part_files.holds_passages(part) else [])]


def _spooled(part: pa.Schema) -> pa.Schema:
    id_field = part.field(part_files.id_name(part)).with_name("id")
    return pa.schema([id_field, *(part.field(name) for name in _needed(part)[1:])])


def _feed_rows(
    rows: pa.RecordBatch,
    status: Statuses,
    part: str,
    numbers: npt.NDArray[np.int64],
    schema: pa.Schema,
) -> pa.RecordBatch:
    deleted = pa.array(status == _DELETED)

    def unless_deleted(values: pa.Array) -> pa.Array:
        return pc.if_else(deleted, pa.scalar(None, values.type), values)

    codes = np.array([0, 0, 1, 1, 2], np.int8)[status]
    names = pa.array([ADDED, CHANGED, DELETED])
    part_indices = pa.array(np.zeros(len(numbers), np.int32), mask=status == _DELETED)
    columns = {
        schema.names[0]: rows.column("id"),
        "change": pa.DictionaryArray.from_arrays(pa.array(codes), names),
        "vector_changed": pa.array(status != _COLUMNS_CHANGED),
        "part": pa.DictionaryArray.from_arrays(part_indices, pa.array([part])),
        "row": unless_deleted(pa.array(numbers, pa.int64())),
        "text_hash": unless_deleted(rows.column("text_hash")),
    }
    if "passage" in schema.names:
        columns["passage"] = unless_deleted(rows.column("passage"))
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _mark(rows: Rows, status: Statuses, unchanged: U64) -> tuple[ChangeCounts, U64]:
    """Set the status of the rows of one partition.

    Args:
        rows: the rows.
        status: of all rows.
        unchanged: the keys of the ids in unchanged parts, ascending.

    Returns:
        The number of ids by change, and the changed ids that are in unchanged parts as well.
    """
    if not len(rows):
        return ChangeCounts(), np.empty((0, 3), np.uint64)
    rows = rows[np.lexsort((rows["row"], rows["key2"], rows["key"]))]
    is_new = (rows["row"] & _IS_NEW) != 0
    begins = np.ones(len(rows), bool)
    begins[1:] = (rows["key"][1:] != rows["key"][:-1]) | (rows["key2"][1:] != rows["key2"][:-1])
    starts = np.flatnonzero(begins)
    sizes = np.diff(np.append(starts, len(rows)))
    new = np.add.reduceat(is_new.astype(np.int64), starts)
    old = sizes - new
    content = _mixed(rows["content"])
    whole = _mixed(content * _ODD + rows["columns"])
    other_content = (old != new) | _sums_differ(content, is_new, starts)
    differs = other_content | _sums_differ(whole, is_new, starts)
    of_id = np.select(
        [old == 0, new == 0, other_content, differs],
        [_ADDED, _DELETED, _CHANGED, _COLUMNS_CHANGED],
        0,
    ).astype(np.uint8)
    places = np.searchsorted(unchanged, rows["key"][starts])
    in_both = np.zeros(len(starts), bool)
    inside = places < len(unchanged)
    in_both[inside] = unchanged[places[inside]] == rows["key"][starts][inside]
    # Such an id was there before, and is still there.
    of_id[in_both & ((of_id == _ADDED) | (of_id == _DELETED))] = _CHANGED
    of_row = np.repeat(of_id, sizes)
    listed = is_new.copy()
    listed[starts] |= of_id == _DELETED  # A deleted id is listed once.
    numbers = (rows["row"] & ~(_IS_NEW | _IS_FIRST)).astype(np.int64)
    status[numbers[listed]] = of_row[listed]
    changed = (of_id == _CHANGED) | (of_id == _COLUMNS_CHANGED)
    counts = ChangeCounts(
        int(np.count_nonzero(of_id == _ADDED)),
        int(np.count_nonzero(changed)),
        int(np.count_nonzero(of_id == _DELETED)),
    )
    here = in_both & (of_id != 0)
    begin = starts[here]
    return counts, np.column_stack([rows["key"][begin], rows["key2"][begin], of_id[here]])


def _sums_differ(
    values: U64, is_new: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Return for each group whether the multisets of its old and of its new values differ.

    Values are hashes, so equal sums modulo 2^64 mean equal multisets.
    """
    signed = np.where(is_new, values, np.uint64(0) - values)
    differ: npt.NDArray[np.bool_] = np.add.reduceat(signed, starts) != 0
    return differ


def _mixed(values: U64) -> U64:
    """Return the values with each bit spread over all bits, so that sums of them are hashes."""
    mixed: U64 = values ^ (values >> np.uint64(31))
    mixed = mixed * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    return mixed * np.uint64(0x94D049BB133111EB)
