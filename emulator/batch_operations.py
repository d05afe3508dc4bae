"""A batch job as an operation of the Developer API."""

from __future__ import annotations

from typing import Any

from bulkembed.emulator.api_errors import ApiError
from bulkembed.emulator.batch_jobs import Job, JobState, JobStore
from bulkembed.emulator.batch_results import rpc_code
from bulkembed.emulator.batch_settings import OutputIn
from bulkembed.emulator.files import StoredFile, timestamp

_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main.EmbedContentBatch"


def operation(jobs: JobStore, job: Job, now: float) -> dict[str, Any]:
    """Return the operation that answers create, get and list."""
    settings = job.target.settings.batch
    state = jobs.shown_state(job)
    metadata: dict[str, Any] = {"@type": _TYPE, "model": f"models/{job.target.spec.name}"}
    if job.display_name is not None:
        metadata["displayName"] = job.display_name
    metadata["inputConfig"] = job.input
    output = _output(job)
    if output and settings.output_in is not OutputIn.RESPONSE:
        metadata["output"] = output
    metadata["createTime"] = timestamp(job.created)
    if job.state is not None:
        metadata["endTime"] = timestamp(job.ended)
    metadata["updateTime"] = timestamp(job.ended if job.state is not None else now)
    metadata["batchStats"] = batch_stats(jobs, job, now)
    metadata["state"] = settings.state_prefix + state
    body: dict[str, Any] = {"name": job.name, "metadata": metadata | {"name": job.name}}
    if job.state is None:
        return body
    body["done"] = True
    error = final_error(job)
    if error is not None:
        body["error"] = {"code": rpc_code(error), "message": error.message}
    elif output and settings.output_in is not OutputIn.METADATA:
        body["response"] = {"@type": f"{_TYPE}Output"} | output
    return body


def batch_stats(jobs: JobStore, job: Job, now: float) -> dict[str, str]:
    """Return the counts of a job's requests; those of 0 are left out, as protobuf does."""
    done = jobs.progress(job, now)
    failed = job.plan.failed(done)
    counts = {
        "requestCount": job.rows,
        "successfulRequestCount": done - failed,
        "failedRequestCount": failed,
        "pendingRequestCount": job.rows - done,
    }
    return {name: str(count) for name, count in counts.items() if count}


def final_error(job: Job) -> ApiError | None:
    """Return the error of a job that is over without success."""
    if job.state is JobState.FAILED:
        return job.failure or ApiError(500, "An internal error has occurred.")
    if job.state is JobState.CANCELLED:
        return ApiError(499, "The batch was cancelled.")
    if job.state is JobState.EXPIRED:
        return ApiError(504, "The batch expired before it was completed.")
    return None


def _output(job: Job) -> dict[str, Any]:
    if job.state is not JobState.SUCCEEDED or job.output is None:
        return {}
    if isinstance(job.output, StoredFile):
        return {"responsesFile": job.output.name}
    return {"inlinedResponses": {"inlinedResponses": job.output}}
