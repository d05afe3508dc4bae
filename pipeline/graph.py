"""The Beam pipeline, and how it is run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.runners.runner import create_runner

from schemas.errors import ConfigError
from schemas.job import JobConfig
from schemas.units import PlanSlice
from transforms import metrics
from transforms.embed_units import EmbedUnits

DEFAULT_RUNNER = "FnApiRunner"
"""Beam's engine in this process.  `DirectRunner` first tries to download a binary."""
LOCAL_RUNNERS = (DEFAULT_RUNNER, "DirectRunner", "BundleBasedDirectRunner")


def beam_options(runner: str | None, beam_args: Sequence[str]) -> PipelineOptions:
    """Beam's options from the flags behind `--`, and `--runner`.

    Raises:
        ConfigError: a flag that Beam does not know; Beam itself would drop it with a warning.
    """
    if beam_args and not beam_args[0].startswith("-"):
        raise ConfigError(f"{beam_args[0]!r} after --: only Beam's own flags stand there")
    named = [flag for flag in beam_args if flag.split("=")[0] == "--runner"]
    flags = list(beam_args) if named else [*beam_args, f"--runner={runner or DEFAULT_RUNNER}"]
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


def cluster_workers(options: PipelineOptions) -> int | None:
    """How many workers share the quota on another engine; None where that is not known."""
    if is_local(options):
        return None
    flags = options.get_all_options(retain_unknown_options=True)
    for name in ("max_num_workers", "num_workers", "parallelism"):
        if str(flags.get(name) or "").isdigit() and int(flags[name]) > 0:
            return int(flags[name])
    return None


def _unknown_flags(options: PipelineOptions) -> list[str]:
    logging.getLogger("apache_beam.options.pipeline_options").setLevel(logging.ERROR)
    known = options.get_all_options().keys()
    return sorted(options.get_all_options(retain_unknown_options=True).keys() - known)


def run_graph(
    job: JobConfig, slices: Iterable[PlanSlice], options: PipelineOptions
) -> dict[str, int]:
    """Runs the job to its end, whatever that is; stop notes and records tell how it went.

    Returns:
        The job's counters by name, over all workers.
    """
    pipeline = beam.Pipeline(options=options)
    _ = (
        pipeline
        | "Plan" >> beam.Create(list(slices), reshuffle=False)
        | "EmbedUnits" >> EmbedUnits(job)
    )
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace(metrics.NAMESPACE))
    return {counter.key.metric.name: int(counter.result) for counter in found["counters"]}
