"""The net difference between two complete states, folded from the change feeds between them.

Events are folded in partitions by id, and are read from the feeds again for the result, so the
memory does not grow with their number. Rows that were moved to another part since, as by a
compaction, are found by their ids in the parts of the last state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bulkembed.schemas.errors import OutputError
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import age_of_part
from bulkembed.transforms.dataset.manifest import Manifest, RunChanges
from bulkembed.transforms.dataset.part_difference import (
    ADDED,
    CHANGED,
    DELETED,
    ChangeCounts,
    feed_schema,
)
from bulkembed.transforms.dataset.partitioned_rows import PartitionedRows, Rows, partitions_for
from bulkembed.transforms.dataset.row_keys import id_keys
from bulkembed.transforms.dataset.unnamed_file import zeros_on_disk

BLOCK_ROWS = 8192
_EVENT = np.dtype(
    [("key", "<u8"), ("key2", "<u8"), ("number", "<u8"), ("feed", "<u4"), ("what", "u1")]
)
_CHANGE, _VECTOR, _GONE_PART = 3, 4, 8
"""Bits of `what`: the change, whether the vector changed, and whether its part is gone."""
_NAMES = (ADDED, CHANGED, DELETED)
_ADDED, _CHANGED, _DELETED = range(3)
_LISTED = 16
"""Set in the status of an event that is in the result."""

Statuses = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _MovedIds:
    """Ids whose rows are in other parts than the feeds say, ascending by key."""

    keys: npt.NDArray[np.uint64]
    keys2: npt.NDArray[np.uint64]
    status: Statuses


class NetChanges:
    """The difference between two states.

    Args:
        dataset: the dataset.
        manifest: its manifest, with the parts of the later state.
        feeds: the runs between the states, in order.
        folder: a folder on a local disk for temporary files.

    Raises:
        OutputError: a change feed is missing or damaged.
    """

    def __init__(
        self, dataset: Dataset, manifest: Manifest, feeds: Sequence[RunChanges], folder: Path
    ) -> None:
        self.counts = ChangeCounts()
        """The number of ids by change."""
        self._dataset = dataset
        self._manifest = manifest
        self._feeds = feeds
        self._parts = {part.name for part in manifest.parts}
        self._oldest: int | None = None
        """The lowest run number of parts that are gone."""
        self.schema = self._find_schema()
        total = sum(_open_feed(dataset, run).metadata.num_rows for run in feeds)
        partitions = partitions_for(total, _EVENT.itemsize)
        with PartitionedRows(folder, _EVENT, partitions) as events:
            self._read_events(events)
            self._status: Statuses = zeros_on_disk(folder, total)
            moved = [self._fold(events.read(partition)) for partition in range(partitions)]
        self._moved = _MovedIds(
            np.concatenate([some.keys for some in moved]),
            np.concatenate([some.keys2 for some in moved]),
            np.concatenate([some.status for some in moved]),
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the changes, in the columns of a change feed.

        Raises:
            OutputError: a feed or a part cannot be read.
        """
        number = 0
        for run in self._feeds:
            for batch in _feed_batches(self._dataset, run, self.schema.names):
                status = np.asarray(self._status[number : number + batch.num_rows])
                number += batch.num_rows
                rows = np.flatnonzero(status & _LISTED)
                if len(rows):
                    yield self._with_status(batch.take(pa.array(rows)), status[rows])
        if len(self._moved.keys):
            yield from self._moved_rows()

    def _find_schema(self) -> pa.Schema:
        if self._feeds:
            return _open_feed(self._dataset, self._feeds[-1]).schema_arrow.remove_metadata()
        for part in self._manifest.parts:
            opened = part_files.open_part(self._dataset, part.name)
            return feed_schema(opened.schema_arrow, {}).remove_metadata()
        no_rows = pa.schema([("id", pa.string()), ("text_hash", pa.binary(16))])
        return feed_schema(no_rows, {}).remove_metadata()

    def _read_events(self, events: PartitionedRows) -> None:
        number = 0
        for place, run in enumerate(self._feeds):
            names = [self.schema.names[0], "change", "vector_changed", "part"]
            for batch in _feed_batches(self._dataset, run, names):
                ids = id_keys(batch.column(0))
                what = _codes(batch.column("change"))
                what |= np.where(_flags(batch.column("vector_changed")), _VECTOR, 0).astype(
                    np.uint8
                )
                what |= np.where(self._is_gone(batch.column("part")), _GONE_PART, 0).astype(
                    np.uint8
                )
                events.add_columns(
                    key=ids[:, 0],
                    key2=ids[:, 1],
                    number=np.arange(number, number + batch.num_rows, dtype=np.uint64),
                    feed=place,
                    what=what,
                )
                number += batch.num_rows

    def _is_gone(self, parts: pa.DictionaryArray) -> npt.NDArray[np.bool_]:
        """Return for each row whether its part is not in the last state any more."""
        names = parts.dictionary.to_pylist()
        gone = np.array([name not in self._parts for name in names] + [False])
        for name in names:
            if name not in self._parts:
                age = age_of_part(name)[0]
                self._oldest = age if self._oldest is None else min(age, self._oldest)
        indices = parts.indices.fill_null(len(names)).to_numpy()
        found: npt.NDArray[np.bool_] = gone[indices]
        return found

    def _fold(self, events: Rows) -> _MovedIds:
        """Set the status of the events of one partition; return the ids that have moved."""
        if not len(events):
            return _MovedIds(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.uint8))
        events = events[np.lexsort((events["number"], events["key2"], events["key"]))]
        key, key2 = events["key"], events["key2"]
        begins = np.ones(len(events), bool)
        begins[1:] = (key[1:] != key[:-1]) | (key2[1:] != key2[:-1])
        starts = np.flatnonzero(begins)
        ends = np.append(starts[1:], len(events)) - 1
        of_event = np.repeat(np.arange(len(starts)), ends - starts + 1)
        what = events["what"]
        was = (what[starts] & _CHANGE) != _ADDED
        now = (what[ends] & _CHANGE) != _DELETED
        net = np.select([was & now, now, was], [_CHANGED, _ADDED, _DELETED], 255).astype(np.uint8)
        vector = np.bitwise_or.reduceat(what & _VECTOR, starts)
        vector[net != _CHANGED] = _VECTOR
        # The rows of an id are those of the last feed that has it.
        is_last = events["feed"] == events["feed"][ends][of_event]
        gone = np.where(is_last, what & _GONE_PART, 0).astype(np.uint8)
        moved = (np.bitwise_or.reduceat(gone, starts) != 0) & now
        status = (net | vector | _LISTED).astype(np.uint8)
        listed = is_last & (net != 255)[of_event] & ~moved[of_event]
        numbers = events["number"][listed].astype(np.int64)
        self._status[numbers] = status[of_event[listed]]
        self.counts += ChangeCounts(*(int(np.count_nonzero(net == code)) for code in range(3)))
        return _MovedIds(key[starts][moved], key2[starts][moved], status[moved])

    def _with_status(self, rows: pa.RecordBatch, status: Statuses) -> pa.RecordBatch:
        names = pa.array(_NAMES)
        change = pa.array((status & _CHANGE).astype(np.int8))
        columns = {
            **{name: rows.column(name) for name in rows.schema.names},
            "change": pa.DictionaryArray.from_arrays(change, names),
            "vector_changed": pa.array((status & _VECTOR) != 0),
        }
        return pa.record_batch([columns[name] for name in self.schema.names], schema=self.schema)

    def _moved_rows(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of moved ids, from the parts that are younger than those that are gone."""
        oldest = self._oldest or 0
        for name in sorted(self._parts):
            if age_of_part(name)[0] >= oldest:
                yield from self._moved_rows_of(name)

    def _moved_rows_of(self, name: str) -> Iterator[pa.RecordBatch]:
        moved = self._moved
        part = part_files.open_part(self._dataset, name)
        extra = [one for one in ("passage",) if part_files.holds_passages(part.schema_arrow)]
        first = 0
        for block in part_files.read_blocks(part, name, ["id", "text_hash", *extra], BLOCK_ROWS):
            ids = id_keys(block.column("id"))
            places = np.searchsorted(moved.keys, ids[:, 0])
            places[places == len(moved.keys)] = 0
            hits = (moved.keys[places] == ids[:, 0]) & (moved.keys2[places] == ids[:, 1])
            rows = np.flatnonzero(hits)
            if len(rows):
                status = moved.status[places[rows]]
                yield self._with_status(self._as_feed(block, name, first, rows), status)
            first += block.num_rows

    def _as_feed(
        self, block: pa.RecordBatch, name: str, first: int, rows: npt.NDArray[np.int64]
    ) -> pa.RecordBatch:
        taken = block.take(pa.array(rows))
        unset = pa.nulls(len(rows), pa.bool_())
        part = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(len(rows), np.int32)), pa.array([name])
        )
        columns = {
            self.schema.names[0]: taken.column("id"),
            "change": unset,
            "vector_changed": unset,
            "part": part,
            "row": pa.array(first + rows, pa.int64()),
            "text_hash": taken.column("text_hash"),
        }
        if "passage" in self.schema.names:
            columns["passage"] = taken.column("passage").cast(pa.int32())
        return pa.record_batch(
            [columns[name] for name in self.schema.names], names=self.schema.names
        )


def _codes(change: pa.DictionaryArray) -> Statuses:
    of_name = np.array([_NAMES.index(name) for name in change.dictionary.to_pylist()] or [0])
    codes: Statuses = of_name[change.indices.to_numpy()].astype(np.uint8)
    return codes


def _flags(values: pa.Array) -> npt.NDArray[np.bool_]:
    flags: npt.NDArray[np.bool_] = pc.fill_null(values, True).to_numpy(zero_copy_only=False)
    return flags


def _open_feed(dataset: Dataset, run: RunChanges) -> pq.ParquetFile:
    try:
        return part_files.open_part(dataset, run.feed)
    except OutputError as error:
        raise OutputError(
            f"{dataset.path(run.feed)} {error.reason}, so the changes since before run "
            f"{run.run_id} are not known. Load the whole dataset again, from the files that "
            "`bulkembed parts` lists, or restore this file.",
            reason=error.reason,
        ) from error


def _feed_batches(
    dataset: Dataset, run: RunChanges, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    feed = _open_feed(dataset, run)
    yield from part_files.read_blocks(feed, run.feed, columns, BLOCK_ROWS)
