"""The columns of an input as a dataset has them, or as a new one will."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.dataset import run_file
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.pinned_columns import pinned_columns
from bulkembed.transforms.inputs.columns import merge_schemas
from bulkembed.transforms.inputs.input_files import ScannedFile
from bulkembed.transforms.inputs.later_columns import as_in_dataset


def row_schema(
    dataset: Dataset | None, scanned: Sequence[ScannedFile], columns: InputColumns
) -> pa.Schema:
    """Return `id` and the kept columns of an input, with the types of the dataset if they fit.

    Args:
        dataset: the dataset that has or gets the rows; None for a new one.
        scanned: the files of the input.
        columns: which columns are wanted.

    Raises:
        ConfigError: as `merge_schemas`.
    """
    pinned = None if dataset is None else run_file.find(dataset)
    if dataset is None or pinned is None:
        return merge_schemas(scanned, columns)
    layout = pinned["layout"]
    schema = merge_schemas(scanned, columns, layout["kept"])
    wanted = {"id": layout["id_type"], **layout["kept"]}
    if [(field.name, str(field.type)) for field in schema] == [*wanted.items()]:
        return schema
    exact = pinned_columns(dataset)
    return schema if exact is None else as_in_dataset(schema, scanned, columns, exact)
