"""Remove the rows that a synchronised dataset should no longer have."""

from __future__ import annotations

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.sync.mirror import Mirror
from bulkembed.pipeline.sync.on_workers import remove_on_workers
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import UNITS, record_name
from bulkembed.transforms.sync.removed_rows import remove_all


def remove_rows(dataset: Dataset, job: JobConfig, request: RunRequest, mirror: Mirror) -> None:
    """Replace the parts that have rows to remove by copies without them, unit by unit.

    Call this once the rows to send are committed. After a kill, the next run finds the rows that
    are left. On a cluster the workers do it; the launcher does what they have left.

    Raises:
        OutputError: a part cannot be read or written.
        OutputTaken: another run has taken over the dataset.
    """
    places = mirror.found.remove
    if not len(places):
        return
    log.info("sync: removing %s from the dataset", number_of(len(places), "row"))
    removals = mirror.to_remove()
    if remove_on_workers(dataset, job, request, mirror):
        existing = set(dataset.names(UNITS))
        removals = (one for one in removals if record_name(one[0]) in existing)
    remove_all(dataset, job, removals)
