"""Checks of a Dataflow job before it starts, and its errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    TestOptions,
)

from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.inputs.filesystems import locate

RUNNER = "DataflowRunner"
MAX_MESSAGE_CHARS = 300


def check(options: PipelineOptions, places: Iterable[str]) -> None:
    """Reject what would fail on Dataflow, or be lost there.

    Args:
        options: Beam's.
        places: paths and URIs of the input and the output.

    Raises:
        ConfigError: Beam's Google extra is missing, a flag does not start a job, or a path is
            local: each Dataflow worker has its own disk, which is deleted with it.
    """
    if not is_dataflow(options):
        return
    google = options.view_as(GoogleCloudOptions)
    if google.template_location or options.view_as(TestOptions).dry_run:
        raise ConfigError(
            f"--runner {RUNNER}: --template_location and --dry_run do not start a job, but a plan "
            "is valid for one run only. Build a flex template with `make dataflow-package`, or "
            "save the job's request with --dataflow_job_file."
        )
    for place in places:
        if locate(place).is_local:
            raise ConfigError(
                f"--runner {RUNNER}: {place!r} is a local path, which its workers cannot read. "
                "Use gs://bucket/path."
            )
    try:
        import apache_beam.runners.dataflow.internal.apiclient  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--runner {RUNNER} needs Beam's Google extra ({error}). Run "
            "pip install 'apache-beam[gcp]'."
        ) from None


def is_dataflow(options: PipelineOptions) -> bool:
    """Return whether the job runs on Dataflow."""
    return str(options.view_as(StandardOptions).runner) == RUNNER


@contextlib.contextmanager
def submission_errors(options: PipelineOptions) -> Iterator[None]:
    """Turn errors while a job is checked, staged and submitted into ConfigError.

    Raises:
        ConfigError: a flag is missing or wrong, or Google rejects the files or the job.
    """
    if not is_dataflow(options):
        yield
        return
    from google.api_core.exceptions import GoogleAPIError

    try:
        yield
    except (ValueError, OSError, GoogleAPIError) as error:
        text = " ".join(str(error).split())[:MAX_MESSAGE_CHARS]
        raise ConfigError(f"--runner {RUNNER}: the job could not be submitted: {text}") from error


@contextlib.contextmanager
def run_errors(options: PipelineOptions) -> Iterator[None]:
    """Turn errors while the job runs and its counters are fetched into RuntimeError.

    Raises:
        RuntimeError: the job failed, or Dataflow does not respond.
    """
    if not is_dataflow(options):
        yield
        return
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException
    from google.api_core.exceptions import GoogleAPIError

    try:
        yield
    except (DataflowRuntimeException, GoogleAPIError) as error:
        raise RuntimeError(" ".join(str(error).split())) from error
