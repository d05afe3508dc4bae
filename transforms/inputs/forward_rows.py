"""Rows of a file that is read forward, entered near each range that is wanted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from bulkembed.schemas.inputs import OFFSET_STRIDE_ROWS, InputFile
from bulkembed.transforms.inputs.stored_bytes import changed

Row = TypeVar("Row")


class ForwardRows(Generic[Row]):
    """Reads ascending ranges of the rows of a file.

    Args:
        file: the file, with the bytes at which some of its rows begin.
        rows_from: returns the rows from a row on, given its number and the byte where it begins.
        can_seek: whether a range may be entered near its first row. If not, all rows before it are
            read, as in a compressed file.
    """

    def __init__(
        self, file: InputFile, rows_from: Callable[[int, int], Iterator[Row]], *, can_seek: bool
    ) -> None:
        self._file = file
        self._rows_from = rows_from
        self._can_seek = can_seek
        self._next_row, self._following = 0, rows_from(0, 0)

    def read(self, first_row: int, count: int) -> list[Row]:
        """Return the rows of the next range.

        Raises:
            InputError: the file has fewer rows than when it was scanned.
        """
        place = min(first_row // OFFSET_STRIDE_ROWS, len(self._file.offsets) - 1)
        if self._can_seek and place * OFFSET_STRIDE_ROWS > self._next_row:
            self._next_row = place * OFFSET_STRIDE_ROWS
            self._following = self._rows_from(self._next_row, self._file.offsets[place])
        skipped = first_row - self._next_row
        rows = list(itertools.islice(self._following, skipped, skipped + count))
        if len(rows) < count:
            raise changed(self._file.found, f"it has fewer than {first_row + count:,} rows")
        self._next_row = first_row + count
        return rows
