"""Beam's pipeline options, and what they say about the workers of a job."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
    StandardOptions,
)
from apache_beam.runners.runner import create_runner

from bulkembed.pipeline.run.request import LOCAL_RUNNER
from bulkembed.schemas.errors import ConfigError

LOCAL_RUNNERS = (LOCAL_RUNNER, "DirectRunner", "BundleBasedDirectRunner")
PROCESSES = "multi_processing"
_LOCAL_MASTERS = ("[local]", "[auto]")


def beam_options(runner: str | None, beam_args: Sequence[str], workers: int = 1) -> PipelineOptions:
    """Return Beam's options for the flags after `--`, `--runner` and `--workers`.

    Raises:
        ConfigError: Beam does not know a flag (it would drop it with a warning) or the runner.
    """
    if beam_args and not beam_args[0].startswith("-"):
        raise ConfigError(
            f"unexpected argument {beam_args[0]!r} after --. Only Beam's own flags go there."
        )
    named = [flag for flag in beam_args if flag.split("=")[0] == "--runner"]
    flags = list(beam_args) if named else [*beam_args, f"--runner={runner or LOCAL_RUNNER}"]
    if workers > 1:
        flags += [f"--direct_num_workers={workers}", f"--direct_running_mode={PROCESSES}"]
    options = PipelineOptions(flags)
    unknown = _unknown_flags(options) if beam_args and uses_local_runner(options) else []
    if unknown:
        raise ConfigError(
            f"--{unknown[0]}: Beam has no such flag. Put bulkembed's flags before the bare --, "
            "and only Beam's own flags after it."
        )
    _check_runner(str(options.view_as(StandardOptions).runner))
    return options


def _check_runner(name: str) -> None:
    try:
        create_runner(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise ConfigError(f"--runner {name}: {error}") from None


def _unknown_flags(options: PipelineOptions) -> list[str]:
    logging.getLogger("apache_beam.options.pipeline_options").setLevel(logging.ERROR)
    known = options.get_all_options().keys()
    return sorted(options.get_all_options(retain_unknown_options=True).keys() - known)


def uses_local_runner(options: PipelineOptions) -> bool:
    """Return whether Beam's own local runner executes the pipeline."""
    return options.view_as(StandardOptions).runner in LOCAL_RUNNERS


def starts_processes(options: PipelineOptions) -> bool:
    """Return whether the local runner starts worker processes."""
    runner = options.view_as(StandardOptions).runner
    return (runner, options.view_as(DirectOptions).direct_running_mode) == (LOCAL_RUNNER, PROCESSES)


def local_workers(options: PipelineOptions) -> int | None:
    """Return how many bundles the local runner makes of a collection; None for other runners."""
    if not uses_local_runner(options):
        return None
    return int(options.view_as(DirectOptions).direct_num_workers) or os.cpu_count() or 1


def worker_processes(options: PipelineOptions) -> int:
    """Return how many processes of the local runner share the work; 1 for other runners."""
    if not starts_processes(options):
        return 1
    return local_workers(options) or 1


def cluster_workers(options: PipelineOptions) -> int | None:
    """Return how many workers another runner has, by its flags; None if they do not say."""
    if uses_local_runner(options):
        return None
    flags = options.get_all_options(retain_unknown_options=True)
    for name in ("max_num_workers", "num_workers", "parallelism"):
        if str(flags.get(name) or "").isdigit() and int(flags[name]) > 0:
            return int(flags[name])
    return None


def installs_packages(options: PipelineOptions) -> bool:
    """Return whether the workers install what is staged, as containers and boot processes do."""
    environment = options.view_as(PortableOptions).environment_type
    return environment != "EXTERNAL" and not in_launcher(options)


def in_launcher(options: PipelineOptions) -> bool:
    """Return whether another runner's workers are threads of this process."""
    environment = options.view_as(PortableOptions).environment_type
    return environment == "LOOPBACK" or (environment is None and _runs_here(options))


def on_this_machine(options: PipelineOptions) -> bool:
    """Return whether all workers share this machine's files, with any runner."""
    if uses_local_runner(options) or in_launcher(options):
        return True
    environment = options.view_as(PortableOptions).environment_type
    return environment == "PROCESS" and _runs_here(options)


def _runs_here(options: PipelineOptions) -> bool:
    """Return whether the runner's job runs on this machine, by its address."""
    runner = str(options.view_as(StandardOptions).runner)
    if runner == "FlinkRunner":
        return options.view_as(FlinkRunnerOptions).flink_master in _LOCAL_MASTERS
    if runner == "SparkRunner":
        return str(options.view_as(SparkRunnerOptions).spark_master_url).startswith("local")
    return runner not in ("PortableRunner", "DataflowRunner")
