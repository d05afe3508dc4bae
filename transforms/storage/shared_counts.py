"""What the texts that units share have cost: small files beside their vectors, which stay."""

from __future__ import annotations

import dataclasses

from schemas.errors import OutputError
from schemas.units import CallCounts
from transforms.storage.dataset import SHARED, Dataset

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
                counts += CallCounts(**content)
            except TypeError as error:
                raise OutputError(f"{dataset.path(SHARED, name)} is damaged: {error}") from None
    return counts
