"""Rows that are put aside while the input is read, because they are probably new or changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from bulkembed.transforms.core.hashing import Keys, among
from bulkembed.transforms.core.key_filter import KeyFilter
from bulkembed.transforms.core.row_difference import Kind, Places
from bulkembed.transforms.dataset.atomic_files import output_error
from bulkembed.transforms.dataset.row_keys import joined_keys
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.inputs.staged_rows import staged_table
from bulkembed.transforms.sync.compared_rows import Rows

MAX_BYTES = 4 << 30
"""The size of the spool; rows beyond it are read from the input again."""
_PLACE = "place"


class Spool:
    """Copies of rows that the dataset certainly does not have, in a file on a local disk.

    So the input need not be read again for them. Which rows these are is only known when all rows
    have been compared. Almost all others are recognized by a filter of the committed rows.

    Args:
        folder: an existing folder on a local disk.
        committed: about how many rows the dataset has; without any, nothing is spooled.
    """

    def __init__(self, folder: Path, committed: int) -> None:
        self._path = folder / "spooled.arrows"
        self._filter = KeyFilter(committed) if committed else None
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._size = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        self._path.unlink(missing_ok=True)

    def add_committed(self, rows: Rows) -> None:
        """Note committed rows, of dtype COMMITTED_ROW, before the first row of the input.

        Safe for threads.
        """
        if self._filter is not None:
            rows = rows[rows["kind"] != Kind.RETRIED]
            columns = np.where(rows["kind"] == Kind.VECTORS, rows["columns"], 0)
            keys = _keys(rows, rows["content"], columns)
            with self._lock:
                self._filter.add(keys)

    def add(self, batch: RowBatch, file_name: str, rows: Rows) -> None:
        """Copy the rows of a batch of the input that are not committed.

        Args:
            batch: the rows.
            file_name: their file.
            rows: their keys, of dtype INPUT_ROW.

        Raises:
            OutputError: the disk is full.
        """
        if self._filter is None or self._size > MAX_BYTES:
            return
        known = self._filter.may_have(_keys(rows, rows["content"], rows["columns"]))
        known |= self._filter.may_have(_keys(rows, rows["letter"], np.zeros(len(rows), np.uint64)))
        offsets = np.flatnonzero(~known)
        if not len(offsets):
            return
        table = staged_table(batch.take(offsets.tolist(), file_name), file_name)
        table = table.append_column(_PLACE, pa.array(rows["place"][offsets]))
        try:
            if self._writer is None:
                self._writer = pa.ipc.new_stream(str(self._path), table.schema)
            self._writer.write_table(table)
        except OSError as error:
            raise output_error(str(self._path.parent), error) from error
        self._size += table.nbytes

    def read(self, wanted: Places) -> Iterator[tuple[Places, pa.Table]]:
        """Yield the copied rows at some ascending places, as `staged_table` has them."""
        if self._writer is None:
            return
        self._finish()
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_stream(file) as stream:
            for block in stream:
                places: Places = block.column(_PLACE).to_numpy()
                is_wanted = among(places, wanted)
                if is_wanted.any():
                    table = pa.Table.from_batches([block]).filter(pa.array(is_wanted))
                    yield places[is_wanted], table.drop_columns([_PLACE])

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _keys(rows: Rows, content: Keys, columns: Keys) -> Keys:
    return joined_keys((rows["id_high"], rows["id_low"], content, columns), len(rows))
