"""Add the vectors and the kept columns to changes, from the parts that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.manifest import Manifest
from bulkembed.transforms.dataset.partitions import whole_schema


class ChangedVectors:
    """Adds all columns of the rows that changes point to; they are null for deleted ids.

    A column whose name a change has already gets an underscore at its end.

    Args:
        dataset: the dataset.
        manifest: its manifest.
        changes: the schema of the changes.
    """

    def __init__(self, dataset: Dataset, manifest: Manifest, changes: pa.Schema) -> None:
        self._dataset = dataset
        self._names: list[str] = []
        self.schema = changes
        if manifest.parts:
            part = part_files.open_part(dataset, manifest.parts[0].name).schema_arrow
            known = {part_files.id_name(part), "text_hash"}
            known |= {"passage"} if part_files.holds_passages(part) else set()
            fields = [field for field in whole_schema(part) if field.name not in known]
            self._names = [field.name for field in fields]
            for field in fields:
                name = f"{field.name}_" if field.name in changes.names else field.name
                self.schema = self.schema.append(pa.field(name, _nullable(field.type)))

    def add_to(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the changes with the further columns.

        Raises:
            OutputError: a part cannot be read.
        """
        for batch in batches:
            parts = batch.column("part")
            indices = parts.indices.fill_null(-1).to_numpy()
            names = parts.dictionary.to_pylist()
            for index in np.unique(indices):
                rows = batch.take(pa.array(np.flatnonzero(indices == index)))
                name = names[index] if index >= 0 else None
                yield pa.record_batch(
                    [*rows.columns, *self._columns(name, rows)], schema=self.schema
                )

    def _columns(self, part: str | None, rows: pa.RecordBatch) -> list[pa.Array]:
        fields = list(self.schema)[len(rows.schema) :]
        if part is None:
            return [pa.nulls(rows.num_rows, field.type) for field in fields]
        wanted = rows.column("row").to_numpy()
        order = np.argsort(wanted, kind="stable")
        table = self._rows(part, wanted[order])
        back = pa.array(np.argsort(order))
        return [
            table.column(name).combine_chunks().take(back).cast(field.type)
            for name, field in zip(self._names, fields, strict=True)
        ]

    def _rows(self, name: str, wanted: np.typing.NDArray[np.int64]) -> pa.Table:
        """Return rows of a part, ascending; only their row groups are read."""
        part = part_files.open_part(self._dataset, name)
        found = part_files.read_rows(part, name, wanted, self._names)
        return pa.concat_tables(table.select(self._names) for table in found)


def _nullable(kind: pa.DataType) -> pa.DataType:
    """Return the type with lists of any size: pyarrow cannot read a null list of a fixed size."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", kind.value_type))
    return kind
