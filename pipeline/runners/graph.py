"""The Beam pipeline, and how each kind of runner executes it."""

from __future__ import annotations

import collections
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

import apache_beam as beam
import grpc  # type: ignore[import-untyped]  # grpcio ships no types
from apache_beam.metrics.execution import MetricResult
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineRunner

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.runners import dataflow_job, job_server, staging, worker
from bulkembed.pipeline.runners.beam_options import starts_processes, uses_local_runner
from bulkembed.pipeline.runners.worker_processes import ProcessGroup
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.stop import RERUN, Stop, StopReason
from bulkembed.schemas.units import GatherSlice, PlanSlice, SharedSlice
from bulkembed.transforms.calls import metrics
from bulkembed.transforms.dataset import worker_notes
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.embed_units import EmbedUnits

MAX_MESSAGE_CHARS = 300
Build: TypeAlias = Callable[[beam.Pipeline], None]
"""Adds the stages of a job to a pipeline."""
COMMIT_S = 5.0
"""How long the commits of finished rows may take after the shutdown timeout."""


def run_graph(
    job: JobConfig,
    slices: Iterable[PlanSlice],
    shared: Iterable[SharedSlice],
    gathers: Iterable[GatherSlice],
    options: PipelineOptions,
    folder: Path,
) -> dict[str, int]:
    """Run the job until it ends; its result is in the commit records and stop notes.

    Args:
        job: the configuration of the workers.
        slices: the units to process.
        shared: texts that occur in several units; they are processed first.
        gathers: known vectors to gather first.
        options: Beam's.
        folder: of this run, for what the worker processes of this machine share.

    Returns:
        The job's counters by name, summed over all workers; empty if the runner failed.
    """
    embed = EmbedUnits(job, list(shared), list(gathers))
    if starts_processes(options):
        return _run_in_processes(slices, embed, options, folder)
    if uses_local_runner(options):
        return _run(slices, embed, options, folder)
    try:
        extras = staging.extras_for(job.embedding)
        with staging.staged(options, extras), job_server.running(options):
            return _run(slices, embed, options, folder)
    except (RuntimeError, grpc.RpcError) as error:
        log.debug("the runner's error", exc_info=error)
        worker_notes.write_stop(Dataset.open(job.output.uri), job.run_id, _runner_failed(error))
        return {}


def _run(
    slices: Iterable[PlanSlice],
    embed: EmbedUnits,
    options: PipelineOptions,
    folder: Path,
    runner: PipelineRunner | None = None,
) -> dict[str, int]:
    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | "Plan" >> beam.Create(list(slices), reshuffle=False) | "EmbedUnits" >> embed

    result = _finished(build, options, folder, runner)
    with dataflow_job.run_errors(options):
        found = result.metrics().query(MetricsFilter().with_namespace(metrics.NAMESPACE))
    return sum_counters(found["counters"])


def sum_counters(counters: Iterable[MetricResult]) -> dict[str, int]:
    """Return the sum of each counter by its name, over the steps that have it.

    `result` is what was attempted if no commit is reported, or if 0 was committed. Prism knows what
    was attempted only of bundles whose progress it has asked for; of others it is None then.
    """
    total: collections.Counter[str] = collections.Counter()
    for counter in counters:
        total[counter.key.metric.name] += int(counter.result or 0)
    return dict(total)


def _finished(
    build: Build, options: PipelineOptions, folder: Path, runner: PipelineRunner | None = None
) -> PipelineResult:
    """Run a pipeline to its end."""
    with dataflow_job.submission_errors(options):
        pipeline = beam.Pipeline(runner, options=options)
        _move_temporary_files(pipeline, folder)
        build(pipeline)
        result = pipeline.run()
    try:
        with dataflow_job.run_errors(options):
            result.wait_until_finish()
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):
            result.cancel()
        raise
    return result


def run_stages(
    build: Build, embedding: EmbeddingConfig, options: PipelineOptions, folder: Path
) -> str | None:
    """Run a pipeline on a cluster to its end; return why the runner has failed, or None.

    Args:
        build: adds the stages to the pipeline.
        embedding: of the job; it decides which packages the workers need.
        options: new options of Beam, which are changed.
        folder: of this run, for temporary files.

    Raises:
        ConfigError: the job server does not start, or the job is rejected.
    """
    try:
        extras = staging.extras_for(embedding)
        with staging.staged(options, extras), job_server.running(options):
            _finished(build, options, folder)
    except (RuntimeError, grpc.RpcError) as error:
        log.debug("the runner's error", exc_info=error)
        return _first_line(error)
    return None


def _move_temporary_files(pipeline: beam.Pipeline, folder: Path) -> None:
    """Move Beam's temporary folder into that of the run, so that a later run removes both."""
    with contextlib.suppress(AttributeError, OSError):
        Path(pipeline.local_tempdir).rmdir()
        pipeline.local_tempdir = tempfile.mkdtemp(prefix="beam-", dir=folder)


def _run_in_processes(
    slices: Iterable[PlanSlice], embed: EmbedUnits, options: PipelineOptions, folder: Path
) -> dict[str, int]:
    """Run the job in worker processes; if one of them dies, the others stop cleanly."""
    job = embed.job

    def on_death(message: str) -> None:
        stop = Stop(StopReason.ENGINE, f"{message}. Committed rows are kept. {RERUN}", time.time())
        worker_notes.write_stop(Dataset.open(job.output.uri), job.run_id, stop)

    # With this mode set, Beam would start the workers with its own command.
    options.view_as(DirectOptions).direct_running_mode = None
    command = worker.command(log.getEffectiveLevel(), str(folder))
    group = ProcessGroup(command, on_death, job.calls.shutdown_timeout_s + COMMIT_S)
    with group.runner() as runner:
        try:
            return _run(slices, embed, options, folder, runner)
        except Exception as error:
            if group.death is None:
                raise
            log.debug("the runner's error", exc_info=error)
            return {}


def _runner_failed(error: Exception) -> Stop:
    return Stop(
        StopReason.ENGINE,
        f"the Beam runner failed: {_first_line(error)}. {RERUN} Add --log-level debug for details.",
        time.time(),
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0][:MAX_MESSAGE_CHARS].rstrip(".")
