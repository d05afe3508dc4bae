"""The Files API of the emulator, by raw HTTP."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from support.batch_api import BatchApi, batch_api, row

DATA = b'{"key": "a"}\n' * 100


@pytest.fixture
def api() -> Iterator[BatchApi]:
    with batch_api(upload_granularity=100) as api:
        yield api


def begin(api: BatchApi, size: int = len(DATA)) -> str:
    return api.start(size).headers["x-goog-upload-url"]


def test_an_upload_resumes_at_the_bytes_that_have_arrived(api: BatchApi) -> None:
    url = begin(api)
    assert api.step(url, "upload", 0, DATA[:300]).headers["x-goog-upload-status"] == "active"
    asked = api.step(url, "query")
    assert asked.headers["x-goog-upload-size-received"] == "300"
    last = api.step(url, "upload, finalize", 300, DATA[300:])
    assert last.headers["x-goog-upload-status"] == "final"
    file = last.json()["file"]
    assert (file["sizeBytes"], file["source"], file["state"]) == ("1300", "UPLOADED", "ACTIVE")
    hashed = hashlib.sha256(DATA).hexdigest()
    assert base64.b64decode(file["sha256Hash"]).decode() == hashed
    assert api.get(file["name"]) == file
    assert api.step(url, "query").headers["x-goog-upload-status"] == "final"


def test_a_piece_can_be_finalized_by_a_step_of_its_own(api: BatchApi) -> None:
    url = begin(api)
    api.step(url, "upload", 0, DATA)
    assert api.step(url, "finalize", len(DATA)).json()["file"]["sizeBytes"] == "1300"


@pytest.mark.parametrize(
    ("command", "offset", "data", "words"),
    [
        ("upload", 100, DATA, "0 bytes were received"),
        ("upload", 0, DATA[:150], "multiple of 100"),
        ("upload", 0, DATA * 2, "exceeds the declared size"),
        ("upload, finalize", 0, DATA[:100], "has 100 bytes"),
        ("finish", 0, b"", "unknown command"),
    ],
)
def test_a_wrong_step_is_an_error(
    api: BatchApi, command: str, offset: int, data: bytes, words: str
) -> None:
    response = api.step(begin(api), command, offset, data)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


def test_a_cancelled_upload_is_gone(api: BatchApi) -> None:
    url = begin(api)
    assert api.counts["uploads_open"] == 1
    assert api.step(url, "cancel").headers["x-goog-upload-status"] == "cancelled"
    assert api.step(url, "query").status_code == 404
    assert api.counts["uploads_open"] == 0


def test_a_type_must_be_given_and_the_size_is_limited() -> None:
    with batch_api(file_bytes=1000) as api:
        without = api.start(10, **{"X-Goog-Upload-Header-Content-Type": ""})
        assert "mime_type must be specified" in without.text
        assert "exceeds the limit of 1000" in api.start(1001).text
        assert 'Unknown name \\"size\\"' in api.start(10, {"size": 1}).text


def test_a_client_may_choose_the_name_of_a_file_once(api: BatchApi) -> None:
    assert api.upload(DATA, name="files/my-rows") == "files/my-rows"
    again = api.start(10, {"name": "files/my-rows"})
    assert (again.status_code, again.json()["error"]["status"]) == (409, "ALREADY_EXISTS")
    assert api.start(10, {"name": "files/My"}).status_code == 400


def test_files_expire_and_can_be_deleted(api: BatchApi) -> None:
    first, second = api.upload(DATA), api.upload(DATA)
    assert api.http.delete(f"/v1beta/{first}").json() == {}
    assert api.http.get(f"/v1beta/{first}").status_code == 403
    api.time.now_s += 2 * 86_400 - 1
    assert api.get(second)["name"] == second
    api.time.now_s += 1
    assert api.http.get(f"/v1beta/{second}").status_code == 403
    assert api.http.get("/v1beta/files").json() == {}


def test_files_are_listed_in_pages(api: BatchApi) -> None:
    names = [api.upload(DATA) for _ in range(5)]
    found, token = [], ""
    for _ in range(3):
        answer = api.http.get(f"/v1beta/files?pageSize=2&pageToken={token}").json()
        found += [file["name"] for file in answer["files"]]
        token = answer.get("nextPageToken", "")
    assert (found, token) == (names[::-1], "")


def test_a_download_resumes_at_a_byte(api: BatchApi) -> None:
    job = api.submit(*(row(str(number), "text") for number in range(9)))
    name = api.get(job)["metadata"]["output"]["responsesFile"]
    whole = api.download(name)
    assert whole.headers["content-length"] == str(len(whole.content))
    rest = api.download(name, Range="bytes=1000-")
    assert (rest.status_code, rest.content) == (206, whole.content[1000:])
    size = len(whole.content)
    assert rest.headers["content-range"] == f"bytes 1000-{size - 1}/{size}"
    assert api.download(name, Range="bytes=10-19").content == whole.content[10:20]
    assert api.download(name, Range="bytes=-5").content == whole.content[-5:]
    assert api.download(name, Range=f"bytes={size}-").status_code == 416


def test_a_service_without_ranges_sends_the_whole_file() -> None:
    with batch_api(download_ranges=False) as api:
        job = api.submit(row("a", "text"))
        name = api.get(job)["metadata"]["output"]["responsesFile"]
        rest = api.download(name, Range="bytes=10-")
        assert (rest.status_code, rest.content) == (200, api.download(name).content)


def test_uploaded_files_cannot_be_downloaded(api: BatchApi) -> None:
    assert api.download(api.upload(DATA)).status_code == 400


def test_the_further_steps_of_an_upload_need_no_key_unless_set(api: BatchApi) -> None:
    with httpx2.Client() as without_key:
        headers = {"X-Goog-Upload-Command": "query"}
        assert without_key.post(begin(api), headers=headers).status_code == 200
        with batch_api(upload_needs_key=True) as strict:
            url = begin(strict)
            assert without_key.post(url, headers=headers).status_code == 403
            assert strict.step(url, "query").status_code == 200


def test_nothing_is_on_disk_after_the_end(tmp_path: Path) -> None:
    with batch_api(folder=str(tmp_path)) as api:
        api.submit(row("a", "text"))
        assert len(list(tmp_path.rglob("*"))) > 1
    assert list(tmp_path.iterdir()) == []
