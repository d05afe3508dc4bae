"""How the work of a run is distributed over its workers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.gather_plan import GatherPlan, plan_gather
from bulkembed.pipeline.run.plan import (
    DEFAULT_WORKERS,
    SLICES_PER_WORKER,
    Plan,
    cluster_slices,
    local_slices,
)
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.run.sharing import Sharing
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.messages import size_of
from bulkembed.schemas.units import SharedSlice
from bulkembed.transforms.core.quota_limits import split_concurrency
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.picks_file import write_picks

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """The work of a run, in the pieces that workers get."""

    options: PipelineOptions
    """Beam's."""
    gather: GatherPlan
    """It has the slices of the plan."""
    shared: tuple[SharedSlice, ...]
    is_local: bool
    """Whether Beam's own local runner executes the run."""
    processes: int

    def write(self, dataset: Dataset, job: JobConfig, folder: Path) -> Distribution:
        """Write the lists for the workers; return the work, which refers to them.

        Args:
            dataset: the output.
            job: the run.
            folder: on a local disk, for temporary files without names.

        Raises:
            OutputError: a list cannot be written.
        """
        self.gather.write(dataset, job, folder)
        shared = tuple(write_picks(dataset, job.run_id, one) for one in self.shared)
        return dataclasses.replace(self, shared=shared)

    def run(self, job: JobConfig, folder: Path) -> dict[str, int]:
        """Run the work, whose lists are written, and return the counters of the run.

        Args:
            job: the run.
            folder: of the run, for what the worker processes of this machine share.
        """
        from bulkembed.pipeline.runners.graph import run_graph

        job = split_concurrency(job, self.processes)
        gather = self.gather
        return run_graph(job, gather.slices, self.shared, gather.gathers, self.options, folder)


def distribute(request: RunRequest, job: JobConfig, plan: Plan, sharing: Sharing) -> Distribution:
    """Divide the work of a run among its workers."""
    from bulkembed.pipeline.runners import beam_options

    options = beam_options.beam_options(request.runner, request.beam_args, request.workers)
    local = beam_options.local_workers(options)
    cluster = beam_options.cluster_workers(options)
    slices = list(local_slices(plan, local) if local else cluster_slices(plan, cluster))
    pieces = local or SLICES_PER_WORKER * (cluster or DEFAULT_WORKERS)
    gather = plan_gather(job, plan, slices, sharing.known, pieces)
    if gather.gathered_rows:
        log.info(
            "known vectors: %s to gather in _run/gather before the first unit, %s read in place",
            size_of(gather.gathered_bytes),
            size_of((gather.rows - gather.gathered_rows) * gather.vector_bytes),
        )
    return Distribution(
        options,
        gather,
        tuple(sharing.slices(pieces)),
        is_local=local is not None,
        processes=beam_options.worker_processes(options),
    )
