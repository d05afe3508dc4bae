"""The Beam pipeline, and how it is run."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import apache_beam as beam
import grpc  # type: ignore[import-untyped]  # grpcio ships no types
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.runners.runner import PipelineRunner, create_runner

from bulkembed.pipeline.run.request import LOCAL_RUNNER
from bulkembed.pipeline.runners import dataflow_job, job_server, staging, worker
from bulkembed.pipeline.runners.worker_processes import ProcessGroup
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.stop import Stop, StopReason
from bulkembed.schemas.units import PlanSlice, SharedSlice
from bulkembed.transforms.calls import metrics
from bulkembed.transforms.dataset import worker_notes
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.embed_units import EmbedUnits

log = logging.getLogger("bulkembed")
MAX_MESSAGE_CHARS = 300
LAST_S = 5.0
"""After the grace period, what the commits of finished rows may take."""
RESUME = "what is committed is kept; run the same command again to go on"

LOCAL_RUNNERS = (LOCAL_RUNNER, "DirectRunner", "BundleBasedDirectRunner")
PROCESSES = "multi_processing"


def beam_options(runner: str | None, beam_args: Sequence[str], workers: int = 1) -> PipelineOptions:
    """Beam's options from the flags behind `--`, `--runner` and `--workers`.

    Raises:
        ConfigError: a flag that Beam does not know; Beam itself would drop it with a warning.
    """
    if beam_args and not beam_args[0].startswith("-"):
        raise ConfigError(f"{beam_args[0]!r} after --: only Beam's own flags stand there")
    named = [flag for flag in beam_args if flag.split("=")[0] == "--runner"]
    flags = list(beam_args) if named else [*beam_args, f"--runner={runner or LOCAL_RUNNER}"]
    if workers > 1:
        flags += [f"--direct_num_workers={workers}", f"--direct_running_mode={PROCESSES}"]
    options = PipelineOptions(flags)
    unknown = _unknown_flags(options) if is_local(options) else []
    if unknown:
        raise ConfigError(
            f"--{unknown[0]}: Beam has no such flag; only Beam's own flags stand after the bare "
            "--, bulkembed's stand before it"
        )
    _check_runner(str(options.view_as(StandardOptions).runner))
    return options


def _check_runner(name: str) -> None:
    try:
        create_runner(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise ConfigError(f"--runner {name}: {error}") from None


def is_local(options: PipelineOptions) -> bool:
    """Whether the pipeline runs on this machine, in Beam's own engine."""
    return options.view_as(StandardOptions).runner in LOCAL_RUNNERS


def local_workers(options: PipelineOptions) -> int | None:
    """How many bundles the local engine makes of a collection; None for another engine."""
    if not is_local(options):
        return None
    return int(options.view_as(DirectOptions).direct_num_workers) or os.cpu_count() or 1


def worker_processes(options: PipelineOptions) -> int:
    """How many processes of this machine share the work; 1 where it is not the local engine's."""
    if not _starts_processes(options):
        return 1
    return local_workers(options) or 1


def _starts_processes(options: PipelineOptions) -> bool:
    runner = options.view_as(StandardOptions).runner
    return (runner, options.view_as(DirectOptions).direct_running_mode) == (LOCAL_RUNNER, PROCESSES)


def cluster_workers(options: PipelineOptions) -> int | None:
    """How many workers another engine has, by its flags; None where they do not say."""
    if is_local(options):
        return None
    flags = options.get_all_options(retain_unknown_options=True)
    for name in ("max_num_workers", "num_workers", "parallelism"):
        if str(flags.get(name) or "").isdigit() and int(flags[name]) > 0:
            return int(flags[name])
    return None


def quota_shares(options: PipelineOptions) -> int | None:
    """How many parts the quota is cut into; None where that is not known.

    One on this machine: its processes keep one mirror of the quota, in a file.
    """
    if is_local(options) or staging.on_this_machine(options):
        return 1
    return cluster_workers(options)


def _unknown_flags(options: PipelineOptions) -> list[str]:
    logging.getLogger("apache_beam.options.pipeline_options").setLevel(logging.ERROR)
    known = options.get_all_options().keys()
    return sorted(options.get_all_options(retain_unknown_options=True).keys() - known)


def run_graph(
    job: JobConfig,
    slices: Iterable[PlanSlice],
    shared: Iterable[SharedSlice],
    options: PipelineOptions,
    folder: Path,
) -> dict[str, int]:
    """Runs the job to its end, whatever that is; stop notes and records tell how it went.

    Args:
        job: what the workers are told.
        slices: the units to do.
        shared: texts that several units share, done first.
        options: Beam's.
        folder: of this run, for what the worker processes of this machine share.

    Returns:
        The job's counters by name, over all workers; none where the engine gave the job up.
    """
    embed = EmbedUnits(job, list(shared))
    if _starts_processes(options):
        return _run_in_processes(slices, embed, options, folder)
    if is_local(options):
        return _run(slices, embed, options, folder)
    try:
        with staging.staged(options), job_server.running(options):
            return _run(slices, embed, options, folder)
    except (RuntimeError, grpc.RpcError) as error:
        log.debug("the engine's own words", exc_info=error)
        worker_notes.write_stop(Dataset.open(job.output.uri), job.run_id, _engine_failed(error))
        return {}


def _run(
    slices: Iterable[PlanSlice],
    embed: EmbedUnits,
    options: PipelineOptions,
    folder: Path,
    runner: PipelineRunner | None = None,
) -> dict[str, int]:
    with dataflow_job.submission_errors(options):
        pipeline = beam.Pipeline(runner, options=options)
        _move_temporary_files(pipeline, folder)
        _ = pipeline | "Plan" >> beam.Create(list(slices), reshuffle=False) | "EmbedUnits" >> embed
        result = pipeline.run()
    with dataflow_job.waiting(options):
        result.wait_until_finish()
        found = result.metrics().query(MetricsFilter().with_namespace(metrics.NAMESPACE))
    total: collections.Counter[str] = collections.Counter()
    for counter in found["counters"]:  # One of the same name for each step.
        total[counter.key.metric.name] += int(counter.result)
    return dict(total)


def _move_temporary_files(pipeline: beam.Pipeline, folder: Path) -> None:
    """Give Beam's temporary folder a place in that of the run: after a kill, both are removed."""
    with contextlib.suppress(AttributeError, OSError):
        Path(pipeline.local_tempdir).rmdir()
        pipeline.local_tempdir = tempfile.mkdtemp(prefix="beam-", dir=folder)


def _run_in_processes(
    slices: Iterable[PlanSlice], embed: EmbedUnits, options: PipelineOptions, folder: Path
) -> dict[str, int]:
    """Runs the job in worker processes; when one of them dies, the others end in good order."""
    job = embed.job

    def on_loss(sentence: str) -> None:
        stop = Stop(StopReason.ENGINE, f"{sentence}; {RESUME}", time.time())
        worker_notes.write_stop(Dataset.open(job.output.uri), job.run_id, stop)

    # With the mode set, the runner would take Beam's own command.
    options.view_as(DirectOptions).direct_running_mode = None
    command = worker.command(logging.getLogger("bulkembed").getEffectiveLevel(), str(folder))
    group = ProcessGroup(command, on_loss, job.calls.shutdown_timeout_s + LAST_S)
    with group.runner() as runner:
        try:
            return _run(slices, embed, options, folder, runner)
        except Exception as error:
            if group.lost is None:
                raise
            log.debug("the engine's own words", exc_info=error)
            return {}


def _engine_failed(error: Exception) -> Stop:
    said = (str(error).strip() or repr(error)).splitlines()[0][:MAX_MESSAGE_CHARS]
    return Stop(
        StopReason.ENGINE,
        f"the engine gave the job up: {said}; run the same command again to go on, with "
        "--log-level debug to see more",
        time.time(),
    )
