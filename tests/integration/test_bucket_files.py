"""Job files and results in a bucket that is a local folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.batches import TIMEOUT_S, impatient

from bulkembed.schemas.errors import (
    CallRejected,
    ConfigError,
    OutputError,
    Unavailable,
)
from bulkembed.transforms.clients.bucket_files import BucketFiles
from bulkembed.transforms.clients.remote_jobs import MISSING_FILE
from bulkembed.transforms.clients.retry_policy import RetryPolicy


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    folder = tmp_path / "bucket"
    folder.mkdir()
    return folder


def written(bucket: Path, name: str, data: bytes) -> None:
    path = bucket / "job/results" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_a_file_is_copied_there_and_its_results_back(bucket: Path, tmp_path: Path) -> None:
    files = BucketFiles(str(bucket), RetryPolicy())
    source = tmp_path / "job.jsonl"
    source.write_bytes(b"x" * 20_000_000)
    uri = files.uri("job", "requests.jsonl")
    files.upload(source, uri)
    assert uri == "gs://bucket/job/requests.jsonl"
    assert (bucket / "job/requests.jsonl").read_bytes() == source.read_bytes()
    files.delete(uri)
    files.delete(uri)
    assert not (bucket / "job/requests.jsonl").exists()


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        pytest.param({"b.jsonl": b"3\n", "a.jsonl": b"1\n2\n"}, b"1\n2\n3\n", id="by-name"),
        pytest.param({"a.jsonl": b"1", "b.jsonl": b"2"}, b"1\n2\n", id="no-newline-at-the-end"),
        pytest.param({"a.jsonl": b"", "b.jsonl": b"2\n"}, b"2\n", id="an-empty-file"),
        pytest.param({"x/1.jsonl": b"1\n", "y/1.jsonl": b"2\n"}, b"1\n2\n", id="in-folders"),
        pytest.param({"a.jsonl": b"1\n", "errors.txt": b"no"}, b"1\n", id="other-files"),
        pytest.param({"part-0": b"1\n", "part-1": b"2\n"}, b"1\n2\n", id="other-names"),
    ],
)
def test_the_result_files_are_joined_in_order(
    bucket: Path, tmp_path: Path, contents: dict[str, bytes], expected: bytes
) -> None:
    for name, data in contents.items():
        written(bucket, name, data)
    target = tmp_path / "results.jsonl"
    BucketFiles(str(bucket), RetryPolicy()).download("gs://bucket/job/results/", target)
    assert target.read_bytes() == expected


def test_no_results_are_missing_files(bucket: Path, tmp_path: Path) -> None:
    files = BucketFiles(str(bucket), RetryPolicy())
    (bucket / "empty").mkdir()
    for folder in ("gs://bucket/none/", "gs://bucket/empty"):
        with pytest.raises(CallRejected) as caught:
            files.download(folder, tmp_path / "results.jsonl")
        assert caught.value.code == MISSING_FILE
    assert not list(tmp_path.glob("results*"))


def test_a_folder_is_deleted_with_all_that_is_in_it(bucket: Path) -> None:
    written(bucket, "x/1.jsonl", b"1\n")
    files = BucketFiles(str(bucket), RetryPolicy())
    files.delete("gs://bucket/job/results/")
    files.delete("gs://bucket/job/results/")
    assert [path.name for path in bucket.rglob("*")] == ["job"]


@pytest.mark.parametrize(
    "uri",
    ["gs://bucket", "gs://bucket/", "gs://other/job", "gs://bucket-2/job", "gs://bucket/../x", "x"],
)
def test_nothing_outside_the_folder_is_touched(bucket: Path, tmp_path: Path, uri: str) -> None:
    kept = tmp_path / "x"
    kept.write_bytes(b"kept")
    files = BucketFiles(str(bucket), RetryPolicy())
    calls: list[Callable[[], None]] = [
        lambda: files.delete(uri),
        lambda: files.download(uri, tmp_path / "results.jsonl"),
        lambda: files.upload(kept, uri),
    ]
    for call in calls:
        with pytest.raises(CallRejected, match="is not below"):
            call()
    assert kept.read_bytes() == b"kept"
    assert bucket.exists()


def test_a_bucket_that_keeps_failing_is_unavailable(bucket: Path, tmp_path: Path) -> None:
    waits: list[float] = []
    files = BucketFiles(str(bucket), impatient(waits))
    source = tmp_path / "job.jsonl"
    source.write_bytes(b"1\n")
    (bucket / "job").write_bytes(b"a file in place of a folder")
    with pytest.raises(Unavailable) as caught:
        files.upload(source, files.uri("job", "requests.jsonl"))
    assert caught.value.code == "storage"
    assert sum(waits) == pytest.approx(TIMEOUT_S)


def test_results_that_cannot_be_written_are_an_error_of_the_output(
    bucket: Path, tmp_path: Path
) -> None:
    written(bucket, "a.jsonl", b"1\n")
    with pytest.raises(OutputError, match="No such file"):
        BucketFiles(str(bucket), RetryPolicy()).download(
            "gs://bucket/job/results", tmp_path / "none/results"
        )


@pytest.mark.parametrize("uri", ["s3://bucket/x?region=eu-west-1", "az://container@account/x"])
def test_other_stores_are_rejected(uri: str) -> None:
    with pytest.raises(ConfigError, match="gs://BUCKET"):
        BucketFiles(uri, RetryPolicy())


def test_options_of_the_bucket_are_not_part_of_its_uris() -> None:
    files = BucketFiles(
        "gs://anonymous@bucket/x/?endpoint_override=127.0.0.1:1&scheme=http", RetryPolicy()
    )
    assert files.uri("job", "requests.jsonl") == "gs://bucket/x/job/requests.jsonl"
