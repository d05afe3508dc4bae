"""Rows of single units, read from their own parts or from the merged parts of their group."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.schemas.units import PartSpan, UnitRecord
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import VECTORS


class UnitRows:
    """Reads rows of units; keeps a few row groups, which may have rows of many units.

    Args:
        dataset: the dataset of the units.
        columns: the columns to read, as far as a part has them; and PASSAGE_COLUMNS if its rows
            are passages. For `id` see `read_blocks`.
    """

    _KEPT = 3

    def __init__(self, dataset: Dataset, columns: Sequence[str]) -> None:
        self._dataset = dataset
        self._columns = columns
        self._parts: dict[str, _OpenPart] = {}
        self._row_groups: collections.OrderedDict[tuple[str, int], pa.Table] = (
            collections.OrderedDict()
        )

    def vectors(self, record: UnitRecord) -> list[PartSpan]:
        """Return where the rows with vectors of a unit are."""
        return [self.span(record, name) for name in self._dataset.parts_of(record).vectors]

    def dead_letters(self, record: UnitRecord) -> list[PartSpan]:
        """Return where the dead letters of a unit are."""
        return [self.span(record, name) for name in self._dataset.parts_of(record).dead_letters]

    def span(self, record: UnitRecord, name: str) -> PartSpan:
        """Return the rows of a unit in one of its parts.

        Raises:
            OutputError: the part is missing or damaged.
        """
        place = record.place
        if place is None:
            return PartSpan(name, 0, self._open(name).rows)
        for span in record.spans():
            if f"{VECTORS}/{span.name}" == name:
                return span._replace(name=name)
        return PartSpan(name, place.first_dead, record.dead + record.skipped)

    def read(self, span: PartSpan) -> pa.Table:
        """Return some rows of a part.

        Raises:
            OutputError: the part is missing or damaged.
        """
        part = self._open(span.name)
        return pa.concat_tables(
            self._row_group(span.name, group).slice(first, rows)
            for group, first, rows in part.pieces(span.first_row, span.rows)
        )

    def _open(self, name: str) -> _OpenPart:
        if name not in self._parts:
            if len(self._parts) >= self._KEPT:
                del self._parts[next(iter(self._parts))]
            self._parts[name] = _OpenPart(part_files.open_part(self._dataset, name), self._columns)
        return self._parts[name]

    def _row_group(self, name: str, number: int) -> pa.Table:
        key = name, number
        if key not in self._row_groups:
            if len(self._row_groups) >= self._KEPT:
                self._row_groups.popitem(last=False)
            part = self._open(name)
            self._row_groups[key] = part_files.read_row_group(part.file, name, number, part.columns)
        self._row_groups.move_to_end(key)
        return self._row_groups[key]


class _OpenPart:
    def __init__(self, file: pq.ParquetFile, columns: Sequence[str]) -> None:
        self.file = file
        own = [name for name in columns if part_files.has_columns(file.schema_arrow, [name])]
        self.columns = part_files.with_passage_columns(file, own)
        self._ends: npt.NDArray[np.int64] = np.cumsum([0, *part_files.rows_of_groups(file)])
        self.rows = int(self._ends[-1])

    def pieces(self, first: int, rows: int) -> Iterator[tuple[int, int, int]]:
        """Yield row group, first row in it, and number of rows for some consecutive rows."""
        end = first + rows
        group = int(np.searchsorted(self._ends, first, side="right")) - 1
        while first < end:
            begin, reached = int(self._ends[group]), int(self._ends[group + 1])
            yield group, first - begin, min(end, reached) - first
            first, group = reached, group + 1
