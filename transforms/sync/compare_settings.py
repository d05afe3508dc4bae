"""The settings of a comparison on a cluster."""

from __future__ import annotations

import dataclasses

from bulkembed.schemas.job import JobConfig
from bulkembed.transforms.sync.compared_rows import Comparison
from bulkembed.transforms.sync.partitioned_blocks import SlicePlaces


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class CompareSettings:
    """What all workers of a comparison know. Can be pickled."""

    job: JobConfig
    compared: Comparison
    partitions: int
    """A power of two: rows are compared in as many parts, each of which fits into memory."""
    places: SlicePlaces
    retry_failed: bool = False
