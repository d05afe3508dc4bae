"""The options of `bulkembed emulator` for files and batch jobs."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click

from bulkembed.emulator.batch_settings import (
    BadLine,
    BatchSettings,
    InputErrors,
    JobOutcome,
    KeyForm,
    OutputIn,
    TokenForm,
    VectorForm,
)
from bulkembed.schemas.errors import ConfigError

_F = TypeVar("_F", bound=Callable[..., Any])
_DEFAULTS = BatchSettings()
_NUMBERS = {
    "seconds": "Seconds from the creation of a batch job to its end.",
    "pending_share": "Share of that time in which the job is pending, 0 to 1.",
    "cancel_seconds": "Seconds from a cancel until the job is cancelled.",
    "list_lag_s": "Seconds after which a new job is in the list.",
    "expire_s": "Seconds after which a job that is not over expires.",
    "file_expire_s": "Seconds after which an uploaded file is deleted.",
    "result_expire_s": "Seconds after which a result file is deleted.",
    "file_bytes": "Maximum bytes of an uploaded file.",
    "inline_bytes": "Maximum bytes of a request that creates a job.",
    "upload_granularity": "Bytes of which each piece of an upload but the last is a multiple.",
    "missing_file": "Status for a file that does not exist.",
    "jobs": "Maximum jobs at once.",
    "vertex_rows": "Maximum rows of a job on Vertex AI.",
    "vertex_bytes": "Maximum bytes of the input of a job on Vertex AI.",
    "vertex_expire_s": "Seconds after which a job on Vertex AI that is not over expires.",
    "vertex_files": "Result files of a job on Vertex AI.",
    "enqueued_tokens": "Maximum tokens of all jobs that are not over; 0: no limit.",
}
_CHOICES: dict[str, tuple[type[enum.StrEnum], str]] = {
    "output_in": (OutputIn, "Where a finished operation names its results."),
    "key_form": (KeyForm, "Where a result has its key: beside the response, or in metadata."),
    "vector_form": (VectorForm, "The field of a result's response that has the vector."),
    "token_form": (TokenForm, "How a result writes its tokenCount."),
    "vertex_input_errors": (
        InputErrors,
        "What an invalid input on Vertex AI fails: the creation, or the job.",
    ),
    "bad_line": (BadLine, "What a line that is no valid request fails: its row, or the job."),
}
_SWITCHES = {
    "upload_needs_key": (False, "Answer 403 to the further steps of an upload without a key."),
    "final_query_names_file": (False, "Name the file when a finished upload is queried."),
    "delete_results": (True, "Let clients delete result files."),
    "download_ranges": (True, "Serve ranges of result files."),
    "quota_details": (False, "Explain a 429 of the limits of jobs and enqueued tokens."),
    "echo_request": (False, "Repeat the request in a result."),
    "shuffle": (True, "Write results out of order."),
    "http_codes": (False, "Use HTTP statuses in the errors of rows, not those of gRPC."),
    "vertex_partial_state": (True, "Show a job with failed rows as PARTIALLY_SUCCEEDED."),
    "needs_input": (True, "Fail a job whose file is deleted or expires before it runs."),
    "bill_cancelled": (False, "Bill the processed rows of cancelled jobs."),
}


def batch_options(command: _F) -> _F:
    """Add the options to a command; `batch_settings` reads them."""
    options = [
        click.option(
            flag(name), type=type(getattr(_DEFAULTS, name)), default=getattr(_DEFAULTS, name),
            show_default=True, help=text,
        )
        for name, text in _NUMBERS.items()
    ]  # fmt: skip
    options += [
        click.option(
            flag(name), type=click.Choice([one.value for one in kind]),
            default=getattr(_DEFAULTS, name).value, show_default=True, help=text,
        )
        for name, (kind, text) in _CHOICES.items()
    ]  # fmt: skip
    for name, (default, text) in _SWITCHES.items():
        off = f"/--no-{flag(name)[2:]}" if default else ""
        options.append(click.option(flag(name) + off, default=default, is_flag=True, help=text))
    options += [
        click.option(
            "--batch-state-prefix", type=click.Choice(["BATCH_STATE_", "JOB_STATE_"]),
            default=_DEFAULTS.state_prefix, show_default=True, help="The prefix of a job's state.",
        ),
        click.option(
            "--batch-bucket", "batch_buckets", multiple=True, metavar="BUCKET=PLACE",
            help="The folder, or the URL of a local server, that has a gs:// bucket; * for any.",
        ),
        click.option(
            "--batch-mime-types", metavar="TYPE,...", default=_DEFAULTS.mime_types,
            help="The MIME types that an upload may have. [default: any]",
        ),
        click.option("--batch-folder", help="Folder for uploads and results. [default: temporary]"),
        click.option(
            "--batch-outcomes", metavar="OUTCOME[@SECONDS],...", default="",
            help=f"How the first jobs end, in order: {', '.join(JobOutcome)}; e.g. failed@5,hang.",
        ),
        click.option(
            "--batch-outcome", "batch_outcome_shares", multiple=True, metavar="OUTCOME:SHARE",
            help="Share of the jobs that end like this, 0 to 1.",
        ),
        click.option(
            "--batch-row-fault", "batch_row_faults", multiple=True, metavar="FAULT:SHARE",
            help="Share of the rows with this fault: an HTTP status, missing, double, foreign, "
            "wrong-dim, null, nan or broken-json.",
        ),
        click.option(
            "--batch-call-fault", "batch_call_faults", multiple=True, metavar="CALL:FAULT:SHARE",
            help="Share of the calls of a kind (* for all) with this fault: an HTTP status, "
            "page-STATUS (an HTML page), reset, hang, broken-json, lost (carried out, then reset), "
            "lost-hang, lost-504, cut or stall.",
        ),
        click.option(
            "--batch-script", "batch_call_script", metavar="CALL:FAULT,...", default="",
            help="Answers to the first calls of a kind, in order, e.g. create:ok,create:lost.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def batch_settings(options: dict[str, Any]) -> BatchSettings:
    """Remove the options from a command's, and return their settings."""
    names = [field.name for field in dataclasses.fields(BatchSettings)]
    found = {name: options.pop(f"batch_{name}") for name in names}
    for name, (kind, _) in _CHOICES.items():
        found[name] = kind(found[name])
    for name in ("outcomes", "call_script"):
        found[name] = tuple(step.strip() for step in found[name].split(",") if step.strip())
    found["buckets"] = tuple(map(_bucket, found["buckets"]))
    found["outcome_shares"] = tuple(
        (_outcome(name), share)
        for name, share in _shares("--batch-outcome", found["outcome_shares"])
    )
    found["row_faults"] = tuple(_shares("--batch-row-fault", found["row_faults"]))
    found["call_faults"] = tuple(
        (*name.partition(":")[::2], share)
        for name, share in _shares("--batch-call-fault", found["call_faults"])
    )
    return BatchSettings(**found)


def flag(name: str) -> str:
    """Return the option of a setting."""
    return "--batch-" + name.replace("_", "-")


def _shares(option: str, texts: Sequence[str]) -> Iterator[tuple[str, float]]:
    for text in texts:
        name, _, share = text.rpartition(":")
        try:
            yield name, float(share)
        except ValueError:
            raise ConfigError(f"{option} {text}: end it with a share, such as :0.1") from None


def _bucket(text: str) -> tuple[str, str]:
    bucket, _, place = text.partition("=")
    if not bucket or not place:
        raise ConfigError(f"--batch-bucket {text}: use BUCKET=FOLDER or BUCKET=URL")
    return bucket, place


def _outcome(name: str) -> JobOutcome:
    try:
        return JobOutcome(name)
    except ValueError:
        raise ConfigError(f"--batch-outcome {name}: use {', '.join(JobOutcome)}") from None
