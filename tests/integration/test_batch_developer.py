"""What batch jobs of the Developer API have of their own: uploads, downloads and forms.

See test_batch_services.py for what both services have.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from support.batches import KEY, TIMEOUT_S, batches
from support.gemini import TEXTS

from bulkembed.schemas.errors import (
    CallError,
    CallRejected,
    JobRejected,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.transforms.clients.batch_service import open_batch_service
from bulkembed.transforms.clients.file_upload import MIME_TYPES
from bulkembed.transforms.clients.remote_jobs import MISSING_FILE, RemoteState
from bulkembed.transforms.clients.retry_policy import RetryPolicy

PIECE = 256 << 10
"""The least that the emulator takes in a piece."""


def test_results_that_the_service_does_not_delete_are_left_to_it(tmp_path: Path) -> None:
    with batches(tmp_path, delete_results=False) as one:
        job = one.client.get(one.submit(TEXTS).name)
        assert job is not None
        one.client.delete_file(job.results[0])
        assert one.counts["calls"]["delete-file"] == {"400": 1}
        one.client.delete_file("files/job-1")
        assert one.counts["files_left"] == 1


@pytest.mark.parametrize("prefix", ["JOB_STATE_", "BATCH_STATE_"])
@pytest.mark.parametrize("output_in", ["metadata", "response", "both"])
def test_states_and_results_are_read_in_each_form(
    tmp_path: Path, prefix: str, output_in: str
) -> None:
    with batches(tmp_path, seconds=100, state_prefix=prefix, output_in=output_in) as one:
        name = one.submit(TEXTS).name
        seen = []
        for _ in range(3):
            job = one.client.get(name)
            assert job is not None
            seen.append((job.state, job.state.is_over, len(job.results)))
            one.time.now_s += 50
        assert seen == [
            (RemoteState.PENDING, False, 0),
            (RemoteState.RUNNING, False, 0),
            (RemoteState.SUCCEEDED, True, 1),
        ]


def test_a_job_that_never_begins_is_not_over(tmp_path: Path) -> None:
    with batches(tmp_path, outcomes=("hang-pending@10",)) as one:
        name = one.submit(TEXTS).name
        one.time.now_s += 20
        job = one.client.get(name)
        assert job is not None
        assert (job.state, job.state.is_over, job.reason) == (RemoteState.PENDING, False, "")


def test_a_file_is_sent_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkembed.transforms.clients.file_upload.PIECE_BYTES", PIECE + 1)
    with batches(tmp_path) as one:
        path = tmp_path / "large.jsonl"
        path.write_bytes(b"x" * (2 * PIECE + 5))
        assert one.client.upload(path, "large") == "files/large"
        assert one.counts["calls"]["upload"] == {"200": 3}


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, 3 * PIECE])
def test_the_last_piece_may_have_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("bulkembed.transforms.clients.file_upload.PIECE_BYTES", PIECE)
    with batches(tmp_path) as one:
        path = tmp_path / "file.jsonl"
        path.write_bytes(b"x" * size)
        assert one.upload(path) == "files/job-1"
        assert one.counts["calls"]["upload"] == {"200": -(-size // PIECE)}


BREAKS = [
    pytest.param(("start:503",), id="start"),
    pytest.param(("start:reset",), id="start-reset"),
    pytest.param(("start:lost",), id="start-lost"),
    pytest.param(("upload:503",), id="first-piece"),
    pytest.param(("upload:ok", "upload:reset"), id="second-piece"),
    pytest.param(("upload:lost",), id="piece-whose-answer-is-lost"),
    pytest.param(("upload:lost-503",), id="piece-answered-with-an-error"),
    pytest.param(("upload:cut",), id="half-a-piece"),
    pytest.param(("upload:cut", "upload:503", "upload:reset", "upload:ok"), id="query-fails"),
    pytest.param(("upload:ok", "upload:ok", "upload:lost"), id="end-whose-answer-is-lost"),
    pytest.param(("upload:ok", "upload:ok", "upload:cut"), id="half-of-the-last-piece"),
    pytest.param(("upload:429",), id="rate-limit"),
    pytest.param(("get-file:503", "upload:ok", "upload:ok", "upload:lost"), id="look-up-fails"),
]


@pytest.mark.parametrize("script", BREAKS)
@pytest.mark.parametrize("final_query_names_file", [False, True])
def test_a_broken_upload_goes_on_where_it_stopped(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: tuple[str, ...],
    final_query_names_file: bool,
) -> None:
    monkeypatch.setattr("bulkembed.transforms.clients.file_upload.PIECE_BYTES", PIECE)
    settings: dict[str, Any] = {"final_query_names_file": final_query_names_file}
    with batches(tmp_path, call_script=script, **settings) as one:
        path = tmp_path / "file.jsonl"
        path.write_bytes(bytes(range(256)) * (3 * PIECE // 256))
        assert one.upload(path) == "files/job-1"
        stored = one.server._emulator.batch.files.get("job-1")
        assert b"".join(stored.content.pieces(0, stored.content.size)) == path.read_bytes()
        assert one.counts["files_left"] == 1
        assert 0 < sum(one.waits) < TIMEOUT_S


def test_an_upload_gives_up_when_nothing_helps(tmp_path: Path) -> None:
    with batches(tmp_path, call_faults=(("upload", "503", 1.0),)) as one:
        with pytest.raises(Unavailable):
            one.upload(one.job_file(TEXTS))
        assert sum(one.waits) == pytest.approx(TIMEOUT_S)


def test_the_key_is_sent_with_the_pieces_only_if_the_service_asks_for_it(tmp_path: Path) -> None:
    with batches(tmp_path, upload_needs_key=True) as one:
        assert one.upload(one.job_file(TEXTS)) == "files/job-1"
        assert one.counts["calls"]["upload"] == {"200": 1, "403": 1}
        assert not one.waits


@pytest.mark.parametrize("accepted", MIME_TYPES)
def test_another_mime_type_is_tried_if_the_service_rejects_one(
    tmp_path: Path, accepted: str
) -> None:
    with batches(tmp_path, mime_types=f"a/b,{accepted}") as one:
        assert one.upload(one.job_file(TEXTS)) == "files/job-1"
        assert one.server._emulator.batch.files.get("job-1").mime_type == accepted
        assert one.counts["calls"]["start"]["200"] == MIME_TYPES.index(accepted) + 1
        assert not one.waits


@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", [10, 2 * PIECE])
def test_mime_types_are_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("bulkembed.transforms.clients.file_upload.PIECE_BYTES", PIECE)
    with batches(tmp_path, mime_types="a/b") as one:
        path = tmp_path / "file.jsonl"
        path.write_bytes(b"x" * size)
        with pytest.raises(CallRejected, match="Unsupported MIME type"):
            one.upload(path)
        assert not one.waits


def test_the_same_file_is_not_sent_again(tmp_path: Path) -> None:
    with batches(tmp_path) as one:
        path = one.job_file(TEXTS)
        assert one.upload(path) == one.upload(path) == "files/job-1"
        assert one.counts["calls"]["upload"] == {"200": 1}


def test_an_upload_that_another_worker_has_finished_meanwhile_is_done(tmp_path: Path) -> None:
    with batches(tmp_path, call_script=("upload:503",)) as one:
        path = one.job_file(TEXTS)

        def upload_by_another(_: float) -> None:
            one.upload(path)

        retry = RetryPolicy(TIMEOUT_S, sleep=upload_by_another)
        slow = open_batch_service(one.service, one.embedding, KEY, None, retry)
        try:
            assert slow.upload(path, "job-1") == "files/job-1"
        finally:
            slow.close()
        assert one.counts["files_left"] == 1
        assert "delete-file" not in one.counts["calls"]


@pytest.mark.parametrize("other", [TEXTS[:2], [text[::-1] for text in TEXTS]])
def test_another_file_of_the_same_name_is_replaced(tmp_path: Path, other: list[str]) -> None:
    with batches(tmp_path) as one:
        one.upload(one.job_file(other))
        path = one.job_file(TEXTS)
        one.upload(path)
        stored = one.server._emulator.batch.files.get("job-1")
        assert b"".join(stored.content.pieces(0, stored.content.size)) == path.read_bytes()


@pytest.mark.parametrize("name", ["", "A", "a/b", "-a", "a" * 41, "files/a"])
def test_a_name_that_the_service_would_reject_is_an_error_of_the_program(
    tmp_path: Path, name: str
) -> None:
    with batches(tmp_path) as one, pytest.raises(ValueError, match="no id of a file"):
        one.upload(one.job_file(TEXTS), name)


def test_a_job_is_found_on_a_later_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulkembed.transforms.clients.job_calls.PAGE_JOBS", 2)
    with batches(tmp_path) as one:
        file = one.upload(one.job_file(TEXTS))
        start = one.time.now_s
        jobs = {}
        for number in range(7):
            jobs[number] = one.client.create(file, f"job-{number}")
            one.time.now_s += 7200
        for number, job in jobs.items():
            found = one.client.find(f"job-{number}", start)
            assert found is not None
            assert found.name == job.name
        one.server._emulator.batch._calls.reset()
        assert one.client.find("none", start + 5 * 7200) is None
        assert one.counts["calls"]["list"] == {"200": 2}, "older pages are not read"
        assert one.client.find("none", start) is None
        assert one.counts["calls"]["list"] == {"200": 6}


def test_a_quota_that_is_used_up_is_no_error_of_the_file(tmp_path: Path) -> None:
    with batches(tmp_path, enqueued_tokens=40, seconds=100) as one:
        file = one.upload(one.job_file(TEXTS))
        first = one.client.create(file, "job-1")
        with pytest.raises(QuotaExceeded) as caught:
            one.client.create(file, "job-2")
        assert caught.value.http_status == 429
        one.time.now_s += 100
        assert one.client.get(first.name)
        one.client.create(file, "job-2")


@pytest.mark.parametrize("missing_file", [403, 404])
def test_a_job_of_a_file_that_is_gone_is_rejected_with_its_own_code(
    tmp_path: Path, missing_file: int
) -> None:
    with batches(tmp_path, missing_file=missing_file) as one:
        with pytest.raises(CallRejected) as caught:
            one.client.create("files/gone", "job-1")
        assert (caught.value.code, caught.value.http_status) == (MISSING_FILE, missing_file)


@pytest.mark.parametrize("fault", ["400", "403", "501"])
def test_what_the_service_does_not_let_go_stays_and_is_named_once(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    with batches(
        tmp_path, call_faults=(("delete-file", fault, 1.0), ("delete", fault, 1.0))
    ) as one:
        job = one.submit(TEXTS)
        with caplog.at_level(logging.WARNING, "bulkembed"):
            one.client.delete_job(job.name)
            one.client.delete_file("files/job-1")
        assert one.counts["files_left"]
        assert one.counts["jobs_left"]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        f"{job.name} stays at the service"
    ]


@pytest.mark.parametrize("missing_file", [403, 404])
def test_files_that_are_gone_are_deleted_or_missing(tmp_path: Path, missing_file: int) -> None:
    with batches(tmp_path, missing_file=missing_file) as one:
        job = one.client.get(one.submit(TEXTS).name)
        assert job is not None
        for _ in range(2):
            for file in ("files/job-1", *job.results):
                one.client.delete_file(file)
        with pytest.raises(CallRejected) as caught:
            one.lines(job)
        assert caught.value.code == MISSING_FILE


def test_a_job_that_is_over_may_reject_its_cancellation_in_any_words(tmp_path: Path) -> None:
    faults = (("cancel", "400", 1.0),)
    with batches(tmp_path, call_faults=faults, outcomes=("succeeded", "hang")) as one:
        over, running = one.submit(TEXTS), one.submit(TEXTS, "job-2")
        one.client.cancel(over.name)
        with pytest.raises(CallRejected):
            one.client.cancel(running.name)


def test_a_wrong_key_is_rejected_everywhere_and_never_shown(tmp_path: Path) -> None:
    key = "a-wrong-key-of-some-length"
    with batches(tmp_path, key=key) as one:
        calls: list[Any] = [
            lambda: one.upload(one.job_file(TEXTS)),
            lambda: one.client.create("files/a", "job-1"),
            lambda: one.client.get("batches/a"),
            lambda: one.client.find("a", 0),
            lambda: one.client.cancel("batches/a"),
            lambda: one.client.delete_file("files/a"),
            lambda: one.client.delete_job("batches/a"),
        ]
        for call in calls:
            with pytest.raises(JobRejected) as caught:
                call()
            assert caught.value.code == "key"
            assert key not in str(caught.value)


def big_job(one: Any) -> Any:
    texts = [f"text {number}" for number in range(400)]
    job = one.client.get(one.submit(texts).name)
    assert job is not None
    return job


@pytest.mark.parametrize(
    ("script", "requests"),
    [
        (("download:cut",), 2),
        (("download:cut", "download:cut", "download:503"), 4),
        (("download:503", "download:429"), 3),
        (("download:reset",), 2),
    ],
)
@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(
    tmp_path: Path, script: tuple[str, ...], requests: int, ranges: bool
) -> None:
    with batches(tmp_path, call_script=script, download_ranges=ranges) as one:
        job = big_job(one)
        lines = one.lines(job)
        assert len({line.key for line in lines if line.error is None}) == 400
        assert len(lines) == 400
        assert sum(one.counts["calls"]["download"].values()) == requests
        if ranges and script[0].endswith("cut"):
            assert one.counts["calls"]["download"]["206"] >= 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["job.jsonl", "results.jsonl"]


def test_a_sleep_that_raises_ends_a_transfer(tmp_path: Path) -> None:
    def stop(_: float) -> None:
        raise InterruptedError

    with batches(tmp_path, call_faults=(("upload", "503", 1.0),)) as one:
        retry = RetryPolicy(sleep=stop)
        client = open_batch_service(one.service, one.embedding, KEY, None, retry)
        with pytest.raises(InterruptedError):
            client.upload(one.job_file(TEXTS), "job-1")
        client.close()


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with batches(tmp_path, model="no-such-model") as one:
        file = one.upload(one.job_file(TEXTS))
        with pytest.raises(CallError, match="no-such-model"):
            one.client.create(file, "job-1")
