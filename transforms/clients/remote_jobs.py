"""Batch jobs as the service reports them, whichever service it is."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Mapping
from typing import Any

from bulkembed.schemas.secrets import masked
from bulkembed.transforms.clients.error_answers import MAX_CHARS

MISSING_FILE = "file"
"""The code of a CallRejected about a file that the service does not have any more."""


class RemoteState(enum.StrEnum):
    """The state of a batch job."""

    QUEUED = "queued"
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    """It is over; some of its rows may have failed."""
    PARTIAL = "partial"
    """It is over, and has results of a part of its rows. Vertex AI only."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    PAUSED = "paused"
    UNKNOWN = "unknown"
    """The service reports none, or one that is not known here."""

    @property
    def is_over(self) -> bool:
        """Whether the job will never do anything any more."""
        return self in _OVER


_OVER = frozenset({
    RemoteState.SUCCEEDED, RemoteState.PARTIAL, RemoteState.FAILED, RemoteState.CANCELLED,
    RemoteState.EXPIRED,
})  # fmt: skip
_PREFIXES = ("JOB_STATE_", "BATCH_STATE_")
_OTHER_NAMES = {
    "PARTIALLY_SUCCEEDED": RemoteState.PARTIAL,
    "CANCELLING": RemoteState.RUNNING,
    "UPDATING": RemoteState.RUNNING,
}


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteJob:
    """A batch job as the service reports it."""

    name: str
    """The service's name, such as batches/abc or projects/P/locations/L/batchPredictionJobs/1."""
    display_name: str
    """The name that its creator gave it; empty if it has none."""
    state: RemoteState
    created_at: float | None = None
    """In epoch seconds; None if the service does not say."""
    updated_at: float | None = None
    """In epoch seconds; None if the service does not say."""
    reason: str = ""
    """Why it failed, in the service's words; empty if there is no error."""
    results: tuple[str, ...] = ()
    """The files of the results, or on Vertex AI the gs:// folder in which they are."""
    done: int | None = None
    """The rows that are finished, those that failed included; None if it is not known."""
    failed: int | None = None
    """The rows that failed; None if it is not known."""


def read_state(name: object) -> RemoteState:
    """Return the state that a service names, with either of its prefixes."""
    short = str(name)
    for prefix in _PREFIXES:
        short = short.removeprefix(prefix)
    if short in _OTHER_NAMES:
        return _OTHER_NAMES[short]
    try:
        return RemoteState(short.lower())
    except ValueError:
        return RemoteState.UNKNOWN


def read_operation(found: Mapping[str, Any]) -> RemoteJob:
    """Return the job in an operation of the Developer API.

    Source: ai.google.dev/api/batch-api, `EmbedContentBatch`, 2026-11.
    """
    facts = _object(found, "metadata")
    error = _object(found, "error") or _object(facts, "error")
    state = read_state(facts.get("state"))
    if state is RemoteState.UNKNOWN and found.get("done") is True:
        state = RemoteState.FAILED if error else RemoteState.SUCCEEDED
    outputs = [_object(facts, "output"), _object(found, "response")]
    files = [_text(output, "responsesFile") for output in outputs]
    stats = _object(facts, "batchStats")
    failed = _count(stats, "failedRequestCount")
    return RemoteJob(
        name=_text(found, "name") or _text(facts, "name"),
        display_name=_text(facts, "displayName"),
        state=state,
        created_at=read_time(facts.get("createTime")),
        updated_at=read_time(facts.get("updateTime")),
        reason=_reason(error),
        results=tuple(dict.fromkeys(filter(None, files))),
        done=_count(stats, "successfulRequestCount") + failed if stats else None,
        failed=failed if stats else None,
    )


def read_prediction_job(found: Mapping[str, Any]) -> RemoteJob:
    """Return the job in a batchPredictionJob of Vertex AI.

    Source: cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.
    batchPredictionJobs, 2026-11.
    """
    asked = _object(_object(found, "outputConfig"), "gcsDestination")
    folder = _text(_object(found, "outputInfo"), "gcsOutputDirectory")
    folder = folder or _text(asked, "outputUriPrefix")
    stats = _object(found, "completionStats")
    failed = _count(stats, "failedCount")
    return RemoteJob(
        name=_text(found, "name"),
        display_name=_text(found, "displayName"),
        state=read_state(found.get("state")),
        created_at=read_time(found.get("createTime")),
        updated_at=read_time(found.get("updateTime")),
        reason=_reason(_object(found, "error")),
        results=(folder,) if folder else (),
        done=_count(stats, "successfulCount") + failed if stats else None,
        failed=failed if stats else None,
    )


def read_time(text: object) -> float | None:
    """Return a time of Google's JSON in epoch seconds; None if it is none."""
    try:
        found = dt.datetime.fromisoformat(str(text))
        return found.timestamp() if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _object(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _count(found: Mapping[str, Any], name: str) -> int:
    """Return a count, which protobuf's JSON writes as a string, and leaves out if it is 0."""
    digits = str(found.get(name, 0))
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 16 else 0


def _reason(error: Mapping[str, Any]) -> str:
    """Return an error in one line, masked."""
    text = error.get("message") or (f"code {error['code']}" if error.get("code") else "")
    return masked(" ".join(str(text).split())[:MAX_CHARS])
