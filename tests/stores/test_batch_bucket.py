"""Job files and results in a bucket of Google Cloud Storage."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.store_proxy import Fault
from support.stores import BUCKET, Store

from bulkembed.schemas.errors import CallRejected, JobRejected
from bulkembed.transforms.clients.bucket_files import BucketFiles
from bulkembed.transforms.clients.remote_jobs import MISSING_FILE
from bulkembed.transforms.clients.retry_policy import RetryPolicy

pytestmark = [
    pytest.mark.stores,
    pytest.mark.timeout(280),
    pytest.mark.parametrize("store", ["gs"], indirect=True),
]


def files_of(store: Store, bucket: str = BUCKET) -> BucketFiles:
    options = f"endpoint_override={store.proxy.address}&scheme=http"
    return BucketFiles(f"gs://anonymous@{bucket}/folder?{options}", RetryPolicy())


@pytest.mark.parametrize("fault", [None, Fault.ERROR, Fault.LOST, Fault.HALF])
def test_a_file_goes_there_and_its_results_come_back(
    store: Store, tmp_path: Path, fault: Fault | None
) -> None:
    files = files_of(store)
    source, target = tmp_path / "job.jsonl", tmp_path / "results.jsonl"
    source.write_bytes(b"0123456789abcde\n" * 1_250_000)
    uploads = 0

    def fail_once(method: str, path: str, number: int) -> Fault | None:
        nonlocal uploads
        uploads += method in ("PUT", "POST")
        return fault if method in ("PUT", "POST") and uploads == 2 else None

    store.proxy.fault = fail_once
    uri = files.uri("job", "results", "requests.jsonl")
    assert uri == f"gs://{BUCKET}/folder/job/results/requests.jsonl"
    files.upload(source, uri)
    if fault is not None:
        assert store.proxy.faults[fault] == 1
    assert store.files(f"{store.root}/folder") == {"job/results/requests.jsonl": 20_000_000}
    store.write(f"{store.root}/folder/job/results/z/1.jsonl", b"last")
    files.download(files.uri("job", "results"), target)
    assert target.read_bytes() == source.read_bytes() + b"last\n"
    files.delete(files.uri("job", "results"))
    files.delete(files.uri("job", "results"))
    files.delete(uri)
    assert store.files(f"{store.root}/folder") == {}
    with pytest.raises(CallRejected) as caught:
        files.download(files.uri("job", "results"), target)
    assert caught.value.code == MISSING_FILE


def test_a_bucket_that_does_not_exist_is_named(store: Store, tmp_path: Path) -> None:
    files = files_of(store, "no-such-bucket")
    source = tmp_path / "job.jsonl"
    source.write_bytes(b"1\n")
    with pytest.raises(JobRejected, match=r"gs://no-such-bucket/folder.*--batch-bucket"):
        files.upload(source, files.uri("requests.jsonl"))
