"""Batch inference of Vertex AI by the emulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials
from support.vertex_batch_api import JOBS, vertex_batch_api, vertex_row

from bulkembed.emulator.batch_settings import InputErrors

ROWS = [vertex_row(str(number), f"text number {number}") for number in range(10)]
HOUR_S = 3600.0


def test_the_sdk_gets_the_vectors_of_online_calls(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path, seconds=100) as vertex:
        uri = vertex.write(*ROWS, vertex_row("title", "text", task_type="RETRIEVAL_DOCUMENT",
                                             title="A title"))  # fmt: skip
        client = genai.Client(
            vertexai=True, project="p", location="us-central1", credentials=Credentials("token"),
            http_options=types.HttpOptions(base_url=vertex.api.server.url),
        )  # fmt: skip
        config = types.CreateBatchJobConfig(dest="gs://bucket/out/", display_name="a job")
        job = client.batches.create(model="gemini-embedding-001", src=uri, config=config)
        assert job.name is not None
        assert job.state == types.JobState.JOB_STATE_QUEUED
        vertex.api.time.now_s += 100
        job = client.batches.get(name=job.name)
        assert job.state == types.JobState.JOB_STATE_SUCCEEDED
        assert job.completion_stats is not None
        assert job.completion_stats.successful_count == 11
        assert job.output_info is not None
        assert str(job.output_info.gcs_output_directory).startswith("gs://bucket/out/")
        found = {line["key"]: line["response"] for line in vertex.lines(job.name or "")}
        assert [type(one["tokenCount"]) for one in found.values()] == [str] * 11
        for row in ROWS:
            text = row["request"]["content"]["parts"][0]["text"]
            online = client.models.embed_content(
                model="gemini-embedding-001", contents=text, config={"output_dimensionality": 128}
            )
            assert online.embeddings is not None
            assert found[row["key"]]["embedding"]["values"] == online.embeddings[0].values
        listed = client.batches.list(config={"filter": 'displayName="a job"'})
        assert [one.name for one in listed] == [job.name]
        assert list(client.batches.list(config={"filter": 'displayName="job"'})) == []
        with pytest.raises(errors.ClientError, match="is over"):
            client.batches.cancel(name=job.name or "")
        assert client.batches.delete(name=job.name or "").done
        assert list(client.batches.list()) == []


def test_requests_are_echoed_in_several_files(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path, vertex_files=3) as vertex:
        name = vertex.submit(*ROWS)
        lines = vertex.lines(name)
        assert len(list((tmp_path / "bucket/out").rglob("*.jsonl"))) == 3
        assert [line["key"] for line in lines] != [row["key"] for row in ROWS]
        assert {line["key"]: line["request"] for line in lines} == {
            row["key"]: row["request"] for row in ROWS
        }


def test_a_failed_row_has_a_status_and_its_job_is_partially_succeeded(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path) as vertex:
        flat = {"key": "flat", "request": ROWS[0]["request"] | {"task_type": "CLUSTERING"}}
        name = vertex.submit(ROWS[0], vertex_row("empty", " "), flat, b"no JSON")
        assert vertex.state(name) == "PARTIALLY_SUCCEEDED"
        failed = [line for line in vertex.lines(name) if "status" in line]
        assert len(failed) == 3
        assert all(line["status"].startswith("INVALID_ARGUMENT: ") for line in failed)
        assert vertex.get(name)["completionStats"] == {
            "successfulCount": "1", "failedCount": "3", "incompleteCount": "0",
        }  # fmt: skip
        assert vertex.api.counts["texts"] == 1


def test_a_job_passes_through_its_states(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path, seconds=100) as vertex:
        name, states = vertex.submit(*ROWS), []
        for _ in range(5):
            states.append(vertex.state(name))
            vertex.api.time.now_s += 13
        assert states == ["QUEUED", "PENDING", "RUNNING", "RUNNING", "RUNNING"]


def test_the_finished_rows_of_a_cancelled_job_are_returned_and_billed(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path, seconds=100, pending_share=0, cancel_seconds=10) as vertex:
        name = vertex.submit(*ROWS)
        vertex.api.time.now_s += 40
        assert vertex.http.post(f"/v1/{name}:cancel").json() == {}
        assert vertex.state(name) == "CANCELLING"
        vertex.api.time.now_s += 10
        assert vertex.state(name) == "CANCELLED"
        assert len(vertex.lines(name)) == 5
        assert vertex.get(name)["completionStats"]["incompleteCount"] == "5"
        assert vertex.api.server.stats()["texts"] == 5


@pytest.mark.parametrize(
    ("step", "state", "rows"),
    [
        ("expired@10", "EXPIRED", 5),
        ("cancelled@10", "CANCELLED", 5),
        ("failed@10", "FAILED", 0),
        ("paused", "PAUSED", 0),
    ],
)
def test_a_job_ends_as_set(tmp_path: Path, step: str, state: str, rows: int) -> None:
    with vertex_batch_api(tmp_path, outcomes=(step,)) as vertex:
        name = vertex.submit(*ROWS)
        vertex.api.time.now_s += 10
        assert vertex.state(name) == state
        assert vertex.api.server.stats()["texts"] == rows
        assert ("outputInfo" in vertex.get(name)) == bool(rows)
        vertex.api.time.now_s += 72 * HOUR_S
        assert vertex.state(name) in (state, "EXPIRED")


def test_a_vanished_job_leaves_nothing(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path, outcomes=("vanish@10",)) as vertex:
        name = vertex.submit(*ROWS)
        vertex.api.time.now_s += 10
        assert vertex.http.get(f"/v1/{name}").status_code == 404
        assert not (tmp_path / "bucket/out").exists()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"displayName": ""}, "display_name"),
        ({"model": "gemini-embedding-001"}, "publishers/google/models/"),
        ({"model": "publishers/google/models/gemini-embedding-2"}, "in us-central1"),
        ({"model": "publishers/google/models/text-embedding-005"}, "not supported for batch"),
        ({"inputConfig": {"instancesFormat": "bigquery", "bigquerySource": {}}}, "use jsonl"),
        ({"inputConfig": {"instancesFormat": "jsonl", "bigquerySource": {}}}, "BigQuery"),
        ({"inputConfig": {"instancesFormat": "jsonl", "gcsSource": {}}}, "at least one"),
        ({"outputConfig": {"predictionsFormat": "jsonl"}}, "gcs_destination"),
        ({"output": {}}, 'Unknown name "output"'),
    ],
)
def test_invalid_jobs_are_errors(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    with vertex_batch_api(tmp_path) as vertex:
        response = vertex.create(vertex.write(*ROWS), **fields)
        assert response.status_code == 400
        assert words in response.json()["error"]["message"]


def test_the_regions_of_a_model_are_known(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path) as vertex:
        uri = vertex.write(*ROWS)
        for location, status in (("us-west4", 200), ("global", 400), ("asia-east1", 400)):
            path = JOBS.replace("us-central1", location)
            assert vertex.create(uri, path=path).status_code == status
            model = "publishers/google/models/gemini-embedding-2"
            wanted = 200 if location == "global" else 400
            assert vertex.create(uri, path=path, model=model).status_code == wanted


@pytest.mark.parametrize("where", InputErrors)
def test_an_invalid_input_fails_the_job_or_its_creation(tmp_path: Path, where: InputErrors) -> None:
    limits = {"vertex_rows": 11, "vertex_bytes": 2000, "vertex_input_errors": where}
    with vertex_batch_api(tmp_path, **limits) as vertex:
        rows = [{"key": str(number)} for number in range(12)]
        for uri, words in (
            ("gs://bucket/none.jsonl", "is not found"),
            (vertex.write(*rows, name="rows"), "12 rows"),
            (vertex.write(b"x" * 2001, name="bytes"), "2001 bytes"),
            (vertex.write(name="none"), "no requests"),
        ):
            response = vertex.create(uri)
            if where is InputErrors.CREATE:
                assert (response.status_code, words in response.text) == (400, True)
                continue
            job = vertex.get(response.json()["name"])
            assert job["state"] == "JOB_STATE_FAILED"
            assert words in job["error"]["message"]


def test_jobs_belong_to_a_project_and_location(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path, seconds=100) as vertex:
        name = vertex.submit(*ROWS)
        vertex.submit(*ROWS, displayName='a "quoted" job')
        other = name.replace("projects/p/", "projects/q/")
        assert vertex.http.get(f"/v1/{other}").status_code == 404
        found = vertex.http.get(JOBS, params={"filter": 'displayName="a \\"quoted\\" job"'}).json()
        assert len(found["batchPredictionJobs"]) == 1
        assert vertex.http.get(JOBS, params={"filter": "state=1"}).status_code == 400
        first = vertex.http.get(JOBS, params={"pageSize": 1}).json()
        second = vertex.http.get(JOBS, params={"pageToken": first["nextPageToken"]}).json()
        assert [job["name"] for job in second["batchPredictionJobs"]] == [name]
        assert vertex.http.delete(f"/v1/{name}").status_code == 400


def test_a_lost_create_is_found_by_its_filter(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path, call_script=("create:lost-504",)) as vertex:
        assert vertex.create(vertex.write(*ROWS)).status_code == 504
        found = vertex.http.get(JOBS, params={"filter": 'displayName="a job"'}).json()
        assert len(found["batchPredictionJobs"]) == 1


def test_an_unset_task_type_means_retrieval_query(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path) as vertex:
        rows = [
            vertex_row("unset", "text"),
            vertex_row("query", "text", task_type="RETRIEVAL_QUERY"),
        ]
        lines = vertex.lines(vertex.submit(*rows))
        assert lines[0]["response"] == lines[1]["response"]


def test_the_sdk_works_without_a_project(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path) as vertex:
        client = genai.Client(
            vertexai=True, api_key="k",
            http_options=types.HttpOptions(base_url=vertex.api.server.url),
        )  # fmt: skip
        config = types.CreateBatchJobConfig(dest="gs://bucket/out/", display_name="a job")
        job = client.batches.create(
            model="gemini-embedding-001", src=vertex.write(*ROWS), config=config
        )
        job = client.batches.get(name=job.name or "")
        assert job.state == types.JobState.JOB_STATE_SUCCEEDED
        assert [one.name for one in client.batches.list()] == [job.name]


def test_a_job_may_have_several_inputs(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path) as vertex:
        uris = [vertex.write(row, name=f"{row['key']}.jsonl") for row in ROWS]
        lines = vertex.lines(vertex.create(*uris).json()["name"])
        assert {line["key"] for line in lines} == {row["key"] for row in ROWS}


def test_a_job_whose_results_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path) as vertex:
        uri = vertex.write(*ROWS)
        target = {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": uri}}
        name = vertex.submit(*ROWS, outputConfig=target)
        assert vertex.state(name) == "FAILED"
        assert "could not be written" in vertex.get(name)["error"]["message"]
        assert vertex.state(vertex.submit(*ROWS)) == "SUCCEEDED"
        assert vertex.api.counts["texts"] == 10


def test_a_bucket_may_have_a_folder_of_its_own(tmp_path: Path) -> None:
    from bulkembed.emulator.buckets import Buckets

    (tmp_path / "in.jsonl").write_text(json.dumps({}))
    buckets = Buckets([("mine", str(tmp_path))])
    assert buckets.size("gs://mine/in.jsonl") == 2
    with pytest.raises(Exception, match="--batch-bucket other=FOLDER"):
        buckets.check("gs://other/in.jsonl")
