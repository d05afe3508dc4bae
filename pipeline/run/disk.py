"""The disk space that a run needs, checked before any request is sent."""

from __future__ import annotations

import shutil
from pathlib import Path

from bulkembed.pipeline.run.plan import Plan
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.job import JobConfig, VectorType
from bulkembed.schemas.messages import number_of, size_of
from bulkembed.transforms.dataset.dataset import Dataset

ROW_BYTES = 64
"""Size of a row without its vector and its kept columns: id, hash, source."""

KEPT_ANSWERS_BYTES = 128 * 1024 * 1024
"""Maximum size of the kept answers of the units in flight, with one slice at a time."""


def bytes_needed(plan: Plan, job: JobConfig, shared_texts: int = 0) -> int:
    """Return an upper bound of what this run writes; kept columns count with the input's size.

    Args:
        plan: the rows.
        job: the size of a vector.
        shared_texts: texts whose vectors are also kept outside the parts until the run ends.
    """
    width = 2 if job.output.vector_type is VectorType.FLOAT16 else 4
    dim = job.embedding.out_dim or 0
    rows = plan.planned_rows + _passages(plan, job)
    needed = rows * (dim * width + ROW_BYTES)
    needed += min(plan.planned_rows * dim * 4, KEPT_ANSWERS_BYTES) + shared_texts * dim * 4
    if job.columns.keep_columns:
        needed += sum(file.file.found.size_bytes for file in plan.work)
    return needed


def _passages(plan: Plan, job: JobConfig) -> int:
    """Estimate how many rows passages add from the size of the input, even if compressed."""
    size = job.embedding.passages
    if size is None or not job.embedding.rows_are_passages:
        return 0
    sizes = (file.file.found.size_bytes for file in plan.work)
    return sum(sizes) // (size.max_bytes - size.overlap_bytes)


def check_free_space(dataset: Dataset, plan: Plan, job: JobConfig, shared_texts: int = 0) -> None:
    """Raise OutputError if a local disk has less free space than the run needs."""
    if dataset.is_on_a_store:
        return
    folder = Path(dataset.root)
    while not folder.exists():
        folder = folder.parent
    needed, free = bytes_needed(plan, job, shared_texts), shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{dataset.root}: the vectors of {number_of(plan.planned_rows, 'row')} need about "
            f"{size_of(needed)}, but the disk has {size_of(free)} free. Free some space, or use "
            "another --output, a smaller --dim or --vector-type float16."
        )
