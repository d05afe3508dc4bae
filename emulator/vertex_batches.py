"""Batch inference of Vertex AI: the resource, its rules, and its result files."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from bulkembed.emulator import wire
from bulkembed.emulator.api_errors import invalid
from bulkembed.emulator.batch_jobs import Job, JobState, JobStore
from bulkembed.emulator.batch_operations import final_error
from bulkembed.emulator.batch_results import result_lines, rpc_code
from bulkembed.emulator.buckets import Buckets
from bulkembed.emulator.files import FileStore, timestamp
from bulkembed.schemas.models import MODELS

METHOD = "batchPredictionJobs"
EXPRESS = ("", "")
"""The place of a job whose URL names no project."""
_REGIONS = {
    "gemini-embedding-001": (
        "us-central1", "us-east1", "us-east4", "us-west1", "us-west4", "europe-west1",
        "europe-west4",
    ),
    "gemini-embedding-2": ("global", "us", "eu"),
}  # fmt: skip
_JOB = frozenset({
    "name", "displayName", "model", "inputConfig", "outputConfig", "labels", "state",
    "createTime", "updateTime", "instanceConfig", "modelParameters", "serviceAccount",
})  # fmt: skip
_INPUT = frozenset({"instancesFormat", "gcsSource", "bigquerySource"})
_OUTPUT = frozenset({"predictionsFormat", "gcsDestination", "bigqueryDestination"})
_MODEL = re.compile(r"publishers/google/models/([^/]+)")
_FILTER = re.compile(r'\s*(?:displayName|display_name)\s*=\s*"((?:[^"\\]|\\.)*)"\s*')


@dataclasses.dataclass(frozen=True, slots=True)
class VertexJobRequest:
    """A checked request that creates a job."""

    display_name: str
    model: str
    uris: list[str]
    output_prefix: str


def read_job(body: object) -> VertexJobRequest:
    """Check the body of a create call.

    Raises:
        ApiError: it is invalid.
    """
    message = wire.Message(body, "batch_prediction_job", _JOB)
    name = message.text("displayName")
    if not name:
        raise invalid("* BatchPredictionJob.display_name: it is required\n")
    found = _MODEL.fullmatch(message.text("model") or "")
    if not found:
        raise invalid("* BatchPredictionJob.model: use publishers/google/models/MODEL\n")
    source = _config(message, "inputConfig", _INPUT)
    _expect_jsonl(source, "instancesFormat")
    uris = _config(source, "gcsSource", frozenset({"uris"}))
    target = _config(message, "outputConfig", _OUTPUT)
    _expect_jsonl(target, "predictionsFormat")
    destination = _config(target, "gcsDestination", frozenset({"outputUriPrefix"}))
    values = [value for value, _ in uris.items("uris")]
    if not values or not all(isinstance(value, str) for value in values):
        raise invalid("* InputConfig.gcs_source.uris: at least one URI is required\n")
    prefix = destination.text("outputUriPrefix")
    if not prefix:
        raise invalid("* OutputConfig.gcs_destination.output_uri_prefix: it is required\n")
    return VertexJobRequest(name, found[1], [str(value) for value in values], prefix)


def _config(message: wire.Message, name: str, names: frozenset[str]) -> wire.Message:
    for other in ("bigquerySource", "bigqueryDestination"):
        if other in message:
            raise invalid("BigQuery is not supported for embedding models. Use Cloud Storage.")
    if name not in message:
        raise invalid(f"* BatchPredictionJob.{message.path(name)}: it is required\n")
    return wire.Message(message.get(name), message.path(name), names)


def _expect_jsonl(message: wire.Message, name: str) -> None:
    if message.text(name) != "jsonl":
        raise invalid(f"* BatchPredictionJob.{message.path(name)}: use jsonl\n")


def check_region(model: str, location: str) -> None:
    """Raise ApiError if a model has no batch inference in a location."""
    regions = _REGIONS.get(model)
    if regions is None and model in MODELS:
        raise invalid(f"The model {model} is not supported for batch prediction.")
    if regions is not None and location not in regions:
        raise invalid(
            f"The model {model} is not supported for batch prediction in {location}. "
            f"Use {', '.join(regions)}."
        )


def wanted_name(query: str | None) -> str | None:
    """Return the display name of a list's filter; None without a filter."""
    if not query:
        return None
    found = _FILTER.fullmatch(query)
    if not found:
        raise invalid(f'Invalid filter: {query}. The emulator knows displayName="NAME" only.')
    return re.sub(r"\\(.)", r"\1", found[1])


def describe(jobs: JobStore, job: Job, now: float) -> dict[str, Any]:
    """Return the resource of a job."""
    state = jobs.shown_state(job)
    body: dict[str, Any] = {
        "name": job.name,
        "displayName": job.display_name,
        "model": f"publishers/google/models/{job.target.spec.name}",
        "inputConfig": job.input,
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": job.output_prefix},
        },
        "state": f"JOB_STATE_{state}",
        "createTime": timestamp(job.created),
        "updateTime": timestamp(job.ended if job.state is not None else now),
    }
    if state not in (JobState.QUEUED, JobState.PENDING):
        body["startTime"] = timestamp(jobs.started(job))
    if job.state is None:
        return body
    body["endTime"] = timestamp(job.ended)
    failed = job.plan.failed(job.finished_rows)
    body["completionStats"] = {
        "successfulCount": str(job.finished_rows - failed),
        "failedCount": str(failed),
        "incompleteCount": str(job.rows - job.finished_rows),
    }
    if job.output is not None:
        body["outputInfo"] = {"gcsOutputDirectory": job.output}
    error = final_error(job)
    if error is not None:
        body["error"] = {"code": rpc_code(error), "message": error.message}
    return body


def write_to_bucket(job: Job, count: int, files: FileStore, buckets: Buckets) -> str:
    """Write the results of a job's first `count` rows; return the URI of their folder."""
    when = timestamp(job.created)
    folder = f"{job.output_prefix.rstrip('/')}/prediction-model-{when}-{job.number}"
    parts = job.target.settings.batch.vertex_files
    lines = result_lines(job.target, job.table, job.plan, count)
    for part in range(parts):
        share = count * (part + 1) // parts - count * part // parts
        path = files.new_path()
        with path.open("wb") as file:
            for _ in range(share):
                line = next(lines, None)
                if line is not None:
                    file.write(line)
            if part == parts - 1:
                file.writelines(lines)
        buckets.put(path, f"{folder}/predictions_{part:05d}-of-{parts:05d}.jsonl")
        path.unlink()
    return folder
