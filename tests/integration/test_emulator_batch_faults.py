"""Faults of the emulator's calls about files and jobs."""

from __future__ import annotations

import json

import httpx2
import pytest
from support.batch_api import BatchApi, batch_api, row

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.settings import EmulatorSettings, Fault

DATA = bytes(range(250)) * 4


def settled(api: BatchApi) -> dict[str, dict[str, int]]:
    """Return the counts of calls by kind and answer."""
    calls: dict[str, dict[str, int]] = api.counts["calls"]
    return calls


def read_into(pieces: list[bytes], api: BatchApi, path: str) -> None:
    with api.http.stream("GET", path) as response:
        for piece in response.iter_bytes():
            pieces.append(piece)  # noqa: PERF402 - those before an error stay


def test_a_lost_answer_to_create_leaves_a_job_that_its_name_finds() -> None:
    with batch_api(call_script=("create:ok", "create:lost")) as api:
        api.submit(row("a", "text"), name="first")
        with pytest.raises(httpx2.ReadError):
            api.submit(row("b", "text"), name="second")
        listed = api.http.get("/v1beta/batches").json()["operations"]
        assert [job["metadata"]["displayName"] for job in listed] == ["second", "first"]
        assert api.counts["jobs_created"] == 2
        assert settled(api)["create"] == {"200": 1, "lost": 1}
        api.submit(row("c", "text"), name="third")


@pytest.mark.parametrize(("fault", "created"), [("504", 0), ("lost-504", 1)])
def test_an_error_does_not_say_whether_the_job_was_created(fault: str, created: int) -> None:
    with batch_api(call_script=(f"create:{fault}",)) as api:
        batch = {"inputConfig": {"file_name": api.upload(b'{"key": "a"}\n')}}
        assert api.create(batch).status_code == 504
        assert api.counts["jobs_created"] == created
        assert settled(api)["create"] == {fault: 1}


def test_a_hanging_create_may_have_created_the_job() -> None:
    with batch_api(call_script=("create:hang", "create:lost-hang")) as api:
        batch = {"inputConfig": {"file_name": api.upload(b'{"key": "a"}\n')}}
        api.http.timeout = httpx2.Timeout(0.3)
        for created in (0, 1):
            with pytest.raises(httpx2.ReadTimeout):
                api.create(batch)
            assert api.counts["jobs_created"] == created


def test_half_of_a_cut_piece_arrives() -> None:
    with batch_api(call_script=("upload:cut",)) as api:
        url = api.start(len(DATA)).headers["x-goog-upload-url"]
        with pytest.raises(httpx2.TransportError):
            api.step(url, "upload, finalize", 0, DATA)
        assert api.step(url, "query").headers["x-goog-upload-size-received"] == "500"
        done = api.step(url, "upload, finalize", 500, DATA[500:])
        assert done.json()["file"]["sizeBytes"] == "1000"


def test_a_lost_answer_to_the_last_piece_leaves_a_file() -> None:
    with batch_api(call_script=("upload:lost",)) as api:
        url = api.start(len(DATA), {"name": "files/rows"}).headers["x-goog-upload-url"]
        with pytest.raises(httpx2.ReadError):
            api.step(url, "upload, finalize", 0, DATA)
        answer = api.step(url, "query")
        assert (answer.headers["x-goog-upload-status"], answer.content) == ("final", b"")
        assert api.get("files/rows")["sizeBytes"] == "1000"


def test_a_cut_download_gives_half_of_the_bytes_and_resumes() -> None:
    with batch_api(call_script=("download:cut",)) as api:
        job = api.submit(*(row(str(number), "text") for number in range(9)))
        name = api.get(job)["metadata"]["output"]["responsesFile"]
        pieces: list[bytes] = []
        with pytest.raises(httpx2.TransportError):
            read_into(pieces, api, f"/v1beta/{name}:download?alt=media")
        got = b"".join(pieces)
        size = int(api.get(name)["sizeBytes"])
        assert 0 < len(got) <= size // 2
        rest = api.download(name, Range=f"bytes={len(got)}-").content
        assert got + rest == api.download(name).content


def test_a_transfer_stalls_after_half_of_its_bytes() -> None:
    with batch_api(call_script=("upload:stall", "download:ok", "download:stall")) as api:
        url = api.start(len(DATA)).headers["x-goog-upload-url"]
        with pytest.raises(httpx2.ReadTimeout):
            api.step(url, "upload, finalize", 0, DATA, timeout=0.3)
        assert api.step(url, "query").headers["x-goog-upload-size-received"] == "500"
        job = api.submit(row("a", "text"))
        name = api.get(job)["metadata"]["output"]["responsesFile"]
        whole = api.download(name).content
        pieces: list[bytes] = []
        api.http.timeout = httpx2.Timeout(0.3)
        with pytest.raises(httpx2.ReadTimeout):
            read_into(pieces, api, f"/v1beta/{name}:download?alt=media")
        assert b"".join(pieces) == whole[: len(whole) // 2]


def test_a_broken_answer_or_a_page_does_not_say_what_was_carried_out() -> None:
    with batch_api(call_script=("create:broken-json", "create:page-200", "get:page-403")) as api:
        batch = {"inputConfig": {"file_name": api.upload(b'{"key": "a"}\n')}}
        broken = api.create(batch)
        assert broken.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            broken.json()
        assert api.create(batch).text.startswith("<!DOCTYPE html>")
        assert api.http.get("/v1beta/batches/none").status_code == 403
        assert api.counts["jobs_created"] == 1
        assert settled(api)["create"] == {"broken-json": 1, "page-200": 1}


def test_a_call_that_is_no_transfer_is_reset_in_place_of_a_cut() -> None:
    with batch_api(call_script=("get:cut",)) as api:
        name = api.submit(row("a", "x"))
        with pytest.raises(httpx2.TransportError):
            api.get(name)
        assert api.counts["calls"]["get"] == {"reset": 1}


def test_every_kind_of_call_can_fail_at_a_rate() -> None:
    faults = (("*", "503", 0.2), ("create", "lost", 0.2))
    with batch_api(call_faults=faults) as api:
        statuses = [api.http.get("/v1beta/batches").status_code for _ in range(100)]
        assert 5 < statuses.count(503) < 40
        statuses = [api.http.delete("/v1beta/files/none").status_code for _ in range(100)]
        assert 5 < statuses.count(503) < 40


def test_the_faults_and_outages_of_online_calls_hold_too() -> None:
    settings = EmulatorSettings(faults=((Fault.INTERNAL, 1.0),), batch=BatchSettings())
    with batch_api(settings) as api:
        assert api.http.get("/v1beta/batches").status_code == 500
    with batch_api(EmulatorSettings(outages=((0, 30),))) as api:
        assert api.http.get("/v1beta/batches").status_code == 503
        api.time.now_s += 30
        assert api.http.get("/v1beta/batches").status_code == 200


def test_equal_seeds_give_equal_faults() -> None:
    def answers() -> list[int]:
        with batch_api(call_faults=(("list", "503", 0.5),)) as api:
            return [api.http.get("/v1beta/batches").status_code for _ in range(30)]

    assert answers() == answers()


def test_a_call_without_a_key_is_an_error() -> None:
    with batch_api() as api:
        job = api.submit(row("a", "text"))
        for path in (job, f"{job}:cancel", "batches", "files"):
            method = "POST" if path.endswith("cancel") else "GET"
            response = httpx2.request(method, f"{api.server.url}/v1beta/{path}")
            assert response.status_code == 403
        assert api.http.get("/v1beta/batches?filter=displayName").status_code == 400


def test_a_test_can_end_a_job_and_take_tokens_as_another_user() -> None:
    with batch_api(seconds=100, enqueued_tokens=100) as api:
        job = api.submit(row("a", "text"), name="mine")
        answer = api.http.post("/jobs", json={"job": "mine", "outcome": "cancelled@0"})
        assert answer.json()["jobs"][0]["state"] == "CANCELLED"
        assert api.state(job) == "CANCELLED"
        assert api.http.post("/jobs", json={"job": job, "outcome": "hang"}).status_code == 404
        api.http.post("/jobs", json={"enqueued_by_others": 100})
        with pytest.raises(AssertionError, match="RESOURCE_EXHAUSTED"):
            api.submit(row("a", "text"))
        api.http.post("/jobs", json={"enqueued_by_others": 0})
        other = api.submit(row("a", "text"))
        assert api.http.post("/jobs", json={"job": other, "outcome": "done"}).status_code == 400
        api.http.post("/jobs", json={"job": other, "outcome": "failed@5"})
        api.time.now_s += 5
        assert api.state(other) == "FAILED"
