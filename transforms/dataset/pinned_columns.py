"""The columns that a dataset has, with their exact types, as its parts have them."""

from __future__ import annotations

import pyarrow as pa

from bulkembed.schemas.errors import OutputError
from bulkembed.transforms.dataset import part_files, run_file
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import EMPTY_PART, VECTORS
from bulkembed.transforms.inputs.column_types import with_items

_TRIES = 3


def pinned_columns(dataset: Dataset) -> pa.Schema | None:
    """Return `id` and the kept columns of a dataset, in its order; None if they are not known.

    `run.json` has the types by name only, so one part is opened.
    """
    pinned = run_file.find(dataset)
    if pinned is None:
        return None
    layout = pinned["layout"]
    records = [record for record in dataset.state().records if record.embedded][:_TRIES]
    for names in (dataset.parts_of(record).vectors for record in records):
        found = _columns_of(dataset, names[0], layout)
        if found is not None:
            return found
    return _columns_of(dataset, f"{VECTORS}/{EMPTY_PART}", layout)


def _columns_of(dataset: Dataset, part: str, layout: dict[str, object]) -> pa.Schema | None:
    """Return the columns of a part; None if it cannot be read, or has other types than pinned."""
    try:
        with part_files.open_part(dataset, part) as file:
            schema = file.schema_arrow
    except OutputError:
        return None
    kept = layout["kept"]
    assert isinstance(kept, dict)
    wanted = {run_file.id_name_of(layout): layout["id_type"], **kept}
    if any(name not in schema.names for name in wanted):
        return None
    types: dict[str, pa.DataType] = {}
    for name, type_name in wanted.items():
        kind = schema.field(name).type
        found = [one for one in (kind, with_items(kind)) if str(one) == type_name]
        if not found:
            return None
        types["id" if not types else name] = found[0]
    return pa.schema(types)
