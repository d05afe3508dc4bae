"""What a job on Dataflow has to keep to, and Dataflow's errors as ours."""

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
    """Refuses what would fail on Dataflow, or be lost there.

    Args:
        options: Beam's.
        places: paths and URIs of input and output.

    Raises:
        ConfigError: Beam's Google extra is missing, a flag asks for no run, or a path is local:
            each worker of Dataflow has a disk of its own, which goes with it.
    """
    if not is_dataflow(options):
        return
    google = options.view_as(GoogleCloudOptions)
    if google.template_location or options.view_as(TestOptions).dry_run:
        raise ConfigError(
            f"--runner {RUNNER}: --template_location and --dry_run make no run, and a plan is made "
            "for one run; `make dataflow-package` makes a flex template, and --dataflow_job_file "
            "keeps the job's request"
        )
    for place in places:
        if locate(place).is_local:
            raise ConfigError(
                f"--runner {RUNNER}: {place} is a local path, which its workers do not have; "
                "give gs://bucket/path"
            )
    try:
        import apache_beam.runners.dataflow.internal.apiclient  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--runner {RUNNER} needs Beam's Google extra ({error}): pip install 'apache-beam[gcp]'"
        ) from None


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether the job goes to Dataflow."""
    return str(options.view_as(StandardOptions).runner) == RUNNER


@contextlib.contextmanager
def submission_errors(options: PipelineOptions) -> Iterator[None]:
    """While a job is checked, staged and handed in.

    Raises:
        ConfigError: a flag is missing or wrong, or Google does not take files or job.
    """
    if not is_dataflow(options):
        yield
        return
    from google.api_core.exceptions import GoogleAPIError

    try:
        yield
    except (ValueError, OSError, GoogleAPIError) as error:
        said = " ".join(str(error).split())[:MAX_MESSAGE_CHARS]
        raise ConfigError(f"--runner {RUNNER}: the job could not be handed in: {said}") from error


@contextlib.contextmanager
def waiting(options: PipelineOptions) -> Iterator[None]:
    """While the job runs and its counters are fetched.

    Raises:
        RuntimeError: Dataflow gave the job up, or does not answer.
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
