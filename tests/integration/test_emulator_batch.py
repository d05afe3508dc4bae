"""Batch jobs of the emulator, by raw HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from support.batch_api import BatchApi, batch_api, row

from bulkembed.emulator.batch_settings import (
    BadLine,
    BatchSettings,
    JobOutcome,
    KeyForm,
    OutputIn,
    TokenForm,
    VectorForm,
)
from bulkembed.emulator.settings import EmulatorSettings

HOUR_S = 3600.0


def test_an_operation_shows_the_progress_of_its_job() -> None:
    with batch_api(seconds=100) as api:
        job = api.submit(*(row(str(number), "text") for number in range(8)))
        stats = api.get(job)["metadata"]["batchStats"]
        assert stats == {"requestCount": "8", "pendingRequestCount": "8"}
        api.time.now_s += 62.5
        running = api.get(job)
        assert "done" not in running
        assert running["metadata"]["state"] == "BATCH_STATE_RUNNING"
        assert running["metadata"]["batchStats"]["successfulRequestCount"] == "4"
        api.time.now_s += 37.5
        done = api.get(job)
        assert done["done"] is True
        assert done["metadata"]["batchStats"] == {
            "requestCount": "8", "successfulRequestCount": "8",
        }  # fmt: skip
        assert done["response"]["responsesFile"] == done["metadata"]["output"]["responsesFile"]


@pytest.mark.parametrize("where", OutputIn)
def test_the_results_are_named_where_the_settings_say(where: OutputIn) -> None:
    with batch_api(output_in=where, state_prefix="JOB_STATE_") as api:
        done = api.get(api.submit(row("a", "text")))
        assert ("output" in done["metadata"]) == (where is not OutputIn.RESPONSE)
        assert ("response" in done) == (where is not OutputIn.METADATA)
        assert done["metadata"]["state"] == "JOB_STATE_SUCCEEDED"


def test_creating_twice_makes_two_jobs_and_is_paid_twice() -> None:
    with batch_api() as api:
        api.submit(row("a", "text"))
        api.submit(row("a", "text"))
        assert api.server.stats()["texts_paid_twice"] == 1
        assert api.counts["display_names_twice"] == 1


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({}, "give file_name or requests"),
        ({"inputConfig": {"file_name": "files/none"}}, "may not exist"),
        ({"inputConfig": {"requests": {"requests": []}}}, "is empty"),
        ({"inputConfig": {"uri": "files/none"}}, 'Unknown name "uri"'),
        ({"display": "a"}, 'Unknown name "display"'),
        ({"model": "models/gemini-embedding-2", "inputConfig": {}}, "must match the URL"),
    ],
)
def test_invalid_batches_are_errors(batch: dict[str, Any], words: str) -> None:
    with batch_api() as api:
        response = api.create(batch)
        assert response.status_code in (400, 403)
        assert words in response.json()["error"]["message"]
        assert api.create(batch, "no-model").status_code == 404


INVALID = [
    b"no JSON",
    {"key": "empty", "request": {"content": {"parts": [{"text": " "}]}}},
    row("task", "text", task_type="NONE"),
    row("dim", "text", output_dimensionality=4000),
    row("title", "text", title="without a task"),
    row("name", "text", unknown=1),
    {"key": "none"},
    {"key": 5, "request": {}},
    row("word", "a poison text"),
]


def test_an_invalid_line_fails_its_row() -> None:
    settings = EmulatorSettings(poison="poison")
    with batch_api(settings) as api:
        job = api.submit(*INVALID, row("good", "text"))
        lines = api.lines(job)
        assert [line["key"] for line in lines if "response" in line] == ["good"]
        failed = [line for line in lines if "error" in line]
        assert len(failed) == len(INVALID)
        assert {line["error"]["code"] for line in failed} == {3}
        assert all(line["error"]["message"] for line in failed)
        assert api.get(job)["metadata"]["batchStats"]["failedRequestCount"] == str(len(INVALID))
        assert api.counts["texts"] == 1


@pytest.mark.parametrize("line", INVALID[:3], ids=["json", "empty", "task"])
def test_an_invalid_line_fails_its_job_if_set(line: Any) -> None:
    with batch_api(bad_line=BadLine.JOB) as api:
        done = api.get(api.submit(row("good", "text"), line))
        assert done["metadata"]["state"] == "BATCH_STATE_FAILED"
        assert done["error"]["code"] == 3
        assert done["error"]["message"].startswith("Line 2 of the input file: ")
        assert api.counts["texts"] == 0


def test_results_have_the_form_of_the_settings() -> None:
    forms = {
        "key_form": KeyForm.METADATA, "vector_form": VectorForm.EMBEDDINGS,
        "token_form": TokenForm.STRING, "echo_request": True,
    }  # fmt: skip
    with batch_api(**forms) as api:
        (line,) = api.lines(api.submit(row("a", "text")))
        assert line["metadata"] == {"key": "a"}
        assert line["request"] == row("a", "text")["request"]
        assert line["response"]["tokenCount"] == "1"
        assert len(line["response"]["embeddings"][0]["values"]) == 128


def test_a_result_has_its_key_where_its_row_had_it() -> None:
    with batch_api(token_form=TokenForm.NONE) as api:
        request = {
            "content": {"parts": [{"text": "text"}]},
            "embedContentConfig": {"outputDimensionality": 128},
        }
        rows = [row("a", "text"), {"metadata": {"key": "b", "more": "c"}, "request": request}]
        lines = sorted(api.lines(api.submit(*rows)), key=lambda line: "metadata" in line)
        assert lines[0]["key"] == "a"
        assert lines[1]["metadata"] == {"key": "b", "more": "c"}
        assert lines[0]["response"] == lines[1]["response"]
        assert "tokenCount" not in lines[0]["response"]


def ending(api: BatchApi, after_s: float = 10) -> dict[str, Any]:
    job = api.submit(row("a", "text"))
    api.time.now_s += after_s
    return api.http.get(f"/v1beta/{job}").json()


@pytest.mark.parametrize(
    ("step", "state", "code"),
    [("failed@10", "FAILED", 13), ("cancelled@10", "CANCELLED", 1), ("expired@10", "EXPIRED", 4)],
)
def test_a_job_ends_as_set_and_bills_nothing(step: str, state: str, code: int) -> None:
    with batch_api(outcomes=(step,)) as api:
        found = ending(api)
        assert found["metadata"]["state"] == f"BATCH_STATE_{state}"
        assert found["error"]["code"] == code
        assert "output" not in found["metadata"]
        assert api.server.stats()["texts"] == 0
        assert api.state(api.submit(row("a", "text"))) == "SUCCEEDED"


@pytest.mark.parametrize(("step", "state"), [("hang", "RUNNING"), ("hang-pending", "PENDING")])
def test_a_hanging_job_expires_after_two_days(step: str, state: str) -> None:
    with batch_api(outcomes=(step,)) as api:
        job = api.submit(row("a", "text"))
        api.time.now_s += 47 * HOUR_S
        assert api.state(job) == state
        api.time.now_s += HOUR_S
        assert api.state(job) == "EXPIRED"


def test_a_job_vanishes() -> None:
    with batch_api(outcomes=("vanish@10",)) as api:
        job = api.submit(row("a", "text"))
        assert api.state(job) == "PENDING"
        api.time.now_s += 10
        assert api.http.get(f"/v1beta/{job}").status_code == 404
        assert api.http.get("/v1beta/batches").json() == {}
        assert api.server.stats()["texts"] == 0


def test_a_share_of_the_jobs_ends_otherwise() -> None:
    with batch_api(outcome_shares=((JobOutcome.FAILED, 0.5),)) as api:
        states = [api.state(api.submit(row("a", "text"))) for _ in range(20)]
        assert set(states) == {"FAILED", "SUCCEEDED"}


def test_a_cancel_takes_its_time_and_a_deleted_job_still_runs() -> None:
    with batch_api(seconds=100, cancel_seconds=30) as api:
        job, deleted = api.submit(row("a", "text")), api.submit(row("b", "text b"))
        assert api.http.post(f"/v1beta/{job}:cancel").json() == {}
        assert api.http.delete(f"/v1beta/{deleted}").json() == {}
        assert api.http.get(f"/v1beta/{deleted}").status_code == 404
        assert api.state(job) == "PENDING"
        api.time.now_s += 30
        assert api.state(job) == "CANCELLED"
        api.time.now_s += 70
        assert api.server.stats()["texts"] == 1
        assert api.counts["jobs_by_state"] == {"CANCELLED": 1, "SUCCEEDED": 1}


def test_the_rows_of_a_cancelled_job_are_billed_if_set() -> None:
    with batch_api(seconds=100, bill_cancelled=True, pending_share=0) as api:
        job = api.submit(*(row(str(number), f"text {number}") for number in range(10)))
        api.time.now_s += 50
        api.http.post(f"/v1beta/{job}:cancel")
        assert api.server.stats()["texts"] == 5


@pytest.mark.parametrize("needed", [True, False])
def test_a_job_may_need_its_file_until_it_runs(needed: bool) -> None:
    with batch_api(seconds=100, needs_input=needed, file_expire_s=10) as api:
        first, second = api.submit(row("a", "text")), api.submit(row("b", "text"))
        name = api.get(first)["metadata"]["inputConfig"]["fileName"]
        api.http.delete(f"/v1beta/{name}")
        api.time.now_s += 100
        for job in (first, second):
            assert api.state(job) == ("FAILED" if needed else "SUCCEEDED")
            if needed:
                assert "is not found" in api.get(job)["error"]["message"]
    with batch_api(seconds=100) as api:
        job = api.submit(row("a", "text"))
        api.time.now_s += 30
        api.http.delete(f"/v1beta/{api.get(job)['metadata']['inputConfig']['fileName']}")
        api.time.now_s += 70
        assert api.state(job) == "SUCCEEDED"


def test_enqueued_tokens_and_jobs_are_limited() -> None:
    with batch_api(seconds=100, enqueued_tokens=10, jobs=3) as api:
        job = api.submit(row("a", "one two three four five six"))
        batch = {"inputConfig": {"file_name": api.upload(b'{"key": "a"}\n')}}
        assert api.counts["enqueued_tokens"] == 6
        rows = [row(str(number), "one two three") for number in range(3)]
        with pytest.raises(AssertionError, match="RESOURCE_EXHAUSTED"):
            api.submit(*rows)
        assert api.create(batch).status_code == 200
        assert api.create(batch).status_code == 200
        answer = api.create(batch)
        assert (answer.status_code, answer.json()["error"].get("details")) == (429, None)
        api.http.post(f"/v1beta/{job}:cancel")
        api.submit(*rows)
        assert api.counts["jobs_created"] == 4


def test_the_429_of_the_quota_may_have_details() -> None:
    with (
        batch_api(enqueued_tokens=1, quota_details=True) as api,
        pytest.raises(AssertionError, match='"quotaValue": "1"'),
    ):
        api.submit(row("a", "one two"))


def test_the_free_tier_has_no_batch() -> None:
    with (
        batch_api(EmulatorSettings(free_tier=True)) as api,
        pytest.raises(AssertionError, match="RESOURCE_EXHAUSTED"),
    ):
        api.submit(row("a", "text"))


def test_rows_have_faults() -> None:
    faults = ("400", "503", "missing", "double", "foreign", "wrong-dim", "null")
    with batch_api(row_faults=tuple((fault, 0.1) for fault in faults)) as api:
        job = api.submit(*(row(str(number), f"text {number}") for number in range(200)))
        lines = api.lines(job)
        keys = [line["key"] for line in lines]
        assert {line["error"]["code"] for line in lines if "error" in line} == {3, 14}
        assert len(set(map(str, range(200))) - set(keys)) > 5
        assert len(keys) - len(set(keys)) > 5
        assert sum(key.startswith("foreign") for key in keys) > 5
        values = [line["response"]["embedding"]["values"] for line in lines if "response" in line]
        assert {len(one) for one in values} == {127, 128}
        assert any(one[0] is None for one in values)
        failed = int(api.get(job)["metadata"]["batchStats"]["failedRequestCount"])
        missing = len(set(map(str, range(200))) - set(keys))
        assert api.counts["texts"] == 200 - failed - missing


def test_everything_starts_again_after_a_reset() -> None:
    with batch_api(outcomes=("failed",)) as api:
        assert api.state(api.submit(row("a", "text"))) == "FAILED"
        api.http.post("/reset")
        assert api.http.get("/v1beta/batches").json() == {}
        assert api.counts["files_left"] == api.counts["jobs_created"] == 0
        assert api.state(api.submit(row("a", "text"))) == "FAILED"


def test_a_canned_job_gives_one_line_for_each_row_and_any_range() -> None:
    with batch_api(EmulatorSettings(canned=True)) as api:
        job = api.submit(*(row(str(number), "text") for number in range(600)))
        lines = api.lines(job)
        assert {line["key"] for line in lines} == set(map(str, range(600)))
        assert {len(line["response"]["embedding"]["values"]) for line in lines} == {128}
        name = api.get(job)["metadata"]["output"]["responsesFile"]
        whole = api.download(name).content
        for start, end in ((0, 9), (5000, 5000), (500_000, 800_000), (len(whole) - 3, len(whole))):
            part = api.download(name, Range=f"bytes={start}-{end}").content
            assert part == whole[start : end + 1]


def test_the_settings_are_checked() -> None:
    from bulkembed.schemas.errors import ConfigError

    for wrong in (
        {"seconds": -1}, {"jobs": 0}, {"outcomes": ("done",)}, {"row_faults": (("lost", 0.1),)},
        {"row_faults": (("missing", 1.1),)}, {"call_faults": (("create", "lose", 0.1),)},
        {"call_script": ("make:503",)}, {"pending_share": 2},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="--batch-"):
            BatchSettings(**wrong)
