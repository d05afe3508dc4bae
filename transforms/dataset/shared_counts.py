"""What the texts that units share have cost: small files beside their vectors, which stay."""

from __future__ import annotations

import dataclasses

from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import SHARED

_SUFFIX = ".json"


def write(dataset: Dataset, name: str, counts: CallCounts) -> None:
    """Writes down what some texts came to; `name` is of the caller's making."""
    dataset.write_json(f"{SHARED}/{name}{_SUFFIX}", dataclasses.asdict(counts))


def total(dataset: Dataset) -> CallCounts:
    """What the shared texts of all runs came to.

    Raises:
        OutputError: a file is damaged.
    """
    counts = CallCounts()
    for name in dataset.names(SHARED):
        if name.endswith(_SUFFIX):
            content = dataset.read_json(f"{SHARED}/{name}") or {}
            try:
                counts += CallCounts(**{key: _whole(value) for key, value in content.items()})
            except (TypeError, ValueError) as error:
                raise dataset.damaged_file(f"{SHARED}/{name}", str(error)) from None
    return counts


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no number")
    return value
