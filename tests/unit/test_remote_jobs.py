from __future__ import annotations

from typing import Any

import pytest

from bulkembed.transforms.clients.remote_jobs import (
    RemoteJob,
    RemoteState,
    read_operation,
    read_prediction_job,
    read_state,
    read_time,
)

NAMES = {
    "QUEUED": RemoteState.QUEUED,
    "PENDING": RemoteState.PENDING,
    "RUNNING": RemoteState.RUNNING,
    "SUCCEEDED": RemoteState.SUCCEEDED,
    "PARTIALLY_SUCCEEDED": RemoteState.PARTIAL,
    "FAILED": RemoteState.FAILED,
    "CANCELLING": RemoteState.RUNNING,
    "CANCELLED": RemoteState.CANCELLED,
    "EXPIRED": RemoteState.EXPIRED,
    "PAUSED": RemoteState.PAUSED,
    "UPDATING": RemoteState.RUNNING,
    "UNSPECIFIED": RemoteState.UNKNOWN,
    "OF_THE_FUTURE": RemoteState.UNKNOWN,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prefix", ["JOB_STATE_", "BATCH_STATE_"])
def test_a_state_is_read_with_either_prefix(name: str, prefix: str) -> None:
    assert read_state(prefix + name) is NAMES[name]


@pytest.mark.parametrize("name", [None, 3, "", [], {}])
def test_anything_else_is_no_known_state(name: object) -> None:
    assert read_state(name) is RemoteState.UNKNOWN


def test_states_that_nothing_follows_are_over() -> None:
    over = {state for state in RemoteState if state.is_over}
    assert over == {
        RemoteState.SUCCEEDED,
        RemoteState.PARTIAL,
        RemoteState.FAILED,
        RemoteState.CANCELLED,
        RemoteState.EXPIRED,
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T00:00:10.500Z", 10.5),
        ("1970-01-01T00:00:10.500000999Z", 10.5),
        ("1970-01-01T01:00:10+01:00", 10.0),
        ("1970-01-01T00:00:10", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (5, None),
    ],
)
def test_a_time_is_read_in_epoch_seconds(text: object, seconds: float | None) -> None:
    assert read_time(text) == seconds


def operation(**metadata: Any) -> dict[str, Any]:
    return {"name": "batches/a", "metadata": {"displayName": "d", **metadata}}


SUCCEEDED = {"state": "JOB_STATE_SUCCEEDED"}
FILE = {"responsesFile": "files/r"}
OPERATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "new": (operation(state="BATCH_STATE_PENDING"), {"state": RemoteState.PENDING}),
    "no-state": (operation(), {"state": RemoteState.UNKNOWN}),
    "done-without-state": (
        {**operation(), "done": True, "response": FILE},
        {"state": RemoteState.SUCCEEDED, "results": ("files/r",)},
    ),
    "failed-without-state": (
        {**operation(), "done": True, "error": {"code": 13, "message": "m"}},
        {"state": RemoteState.FAILED, "reason": "m"},
    ),
    "results-in-metadata": (
        operation(**SUCCEEDED, output=FILE),
        {"state": RemoteState.SUCCEEDED, "results": ("files/r",)},
    ),
    "results-twice": (
        {**operation(**SUCCEEDED, output=FILE), "response": FILE},
        {"state": RemoteState.SUCCEEDED, "results": ("files/r",)},
    ),
    "counts": (
        operation(
            state="BATCH_STATE_RUNNING",
            batchStats={
                "requestCount": "9",
                "successfulRequestCount": "4",
                "failedRequestCount": 2,
                "pendingRequestCount": "3",
            },
        ),
        {"state": RemoteState.RUNNING, "done": 6, "failed": 2},
    ),
    "counts-of-0-are-left-out": (
        operation(state="BATCH_STATE_RUNNING", batchStats={"requestCount": "9"}),
        {"state": RemoteState.RUNNING, "done": 0, "failed": 0},
    ),
    "times": (
        operation(
            **SUCCEEDED, createTime="1970-01-01T00:00:10Z", updateTime="1970-01-01T00:00:20.5Z"
        ),
        {"state": RemoteState.SUCCEEDED, "created_at": 10.0, "updated_at": 20.5},
    ),
    "error-without-words": (
        {**operation(state="BATCH_STATE_FAILED"), "error": {"code": 13}},
        {"state": RemoteState.FAILED, "reason": "code 13"},
    ),
    "error-of-several-lines": (
        {**operation(state="BATCH_STATE_FAILED"), "error": {"code": 3, "message": "a\n  b"}},
        {"state": RemoteState.FAILED, "reason": "a b"},
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_read_as_a_job(name: str) -> None:
    found, facts = OPERATIONS[name]
    assert read_operation(found) == RemoteJob(name="batches/a", display_name="d", **facts)


def prediction(**facts: Any) -> dict[str, Any]:
    return {"name": "projects/p/locations/l/batchPredictionJobs/1", "displayName": "d", **facts}


ASKED = {"gcsDestination": {"outputUriPrefix": "gs://b/out/"}}
PREDICTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "new": (
        prediction(state="JOB_STATE_QUEUED", outputConfig=ASKED),
        {"state": RemoteState.QUEUED, "results": ("gs://b/out/",)},
    ),
    "succeeded": (
        prediction(
            **SUCCEEDED,
            outputConfig=ASKED,
            outputInfo={"gcsOutputDirectory": "gs://b/out/prediction-1"},
            completionStats={"successfulCount": "8", "failedCount": "1"},
            createTime="1970-01-01T00:00:10Z",
        ),
        {
            "state": RemoteState.SUCCEEDED,
            "results": ("gs://b/out/prediction-1",),
            "done": 9,
            "failed": 1,
            "created_at": 10.0,
        },
    ),
    "failed": (
        prediction(state="JOB_STATE_FAILED", error={"code": 3, "message": "m"}),
        {"state": RemoteState.FAILED, "reason": "m"},
    ),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_prediction_job_is_read_as_a_job(name: str) -> None:
    found, facts = PREDICTIONS[name]
    job = "projects/p/locations/l/batchPredictionJobs/1"
    assert read_prediction_job(found) == RemoteJob(name=job, display_name="d", **facts)


@pytest.mark.parametrize("read", [read_operation, read_prediction_job])
@pytest.mark.parametrize("odd", [None, 1, "text", [], [{}]])
def test_values_of_another_form_are_left_out(read: Any, odd: object) -> None:
    keys = (
        "name", "metadata", "response", "error", "displayName", "state", "outputConfig",
        "outputInfo", "completionStats",
    )  # fmt: skip
    job = read(dict.fromkeys(keys, odd))
    text = odd if isinstance(odd, str) else ""
    assert (job.name, job.results, job.done, job.failed) == (text, (), None, None)
    inner = dict.fromkeys(("displayName", "state", "batchStats", "output", "createTime"), odd)
    assert read({"metadata": inner, "outputInfo": inner}).results == ()
