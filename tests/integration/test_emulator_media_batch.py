"""Media in the rows of batch jobs, on both services."""

from __future__ import annotations

import base64
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.batch_api import BatchApi, batch_api
from support.drawings import drawing
from support.media_samples import wav
from support.recordings import movie, printed
from support.vertex_batch_api import VertexBatchApi, vertex_batch_api

from bulkembed.emulator.batch_rows import CHUNK, CHUNK_BYTES, RowTable
from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.settings import EmulatorSettings

MODEL = "gemini-embedding-2"
VERTEX_JOB = {"model": f"publishers/google/models/{MODEL}"}
JOBS = "/v1/projects/p/locations/global/batchPredictionJobs"
RED, BLUE = drawing("red", "circle"), drawing("blue", "square")


def inline(data: bytes, mime: str = "image/png") -> dict[str, Any]:
    return {"inline_data": {"mime_type": mime, "data": base64.b64encode(data).decode()}}


def row(key: str, *parts: dict[str, Any]) -> dict[str, Any]:
    request = {"content": {"parts": list(parts)}, "output_dimensionality": 128}
    return {"key": key, "request": request}


def vertex_row(key: str, *parts: dict[str, Any], **config: Any) -> dict[str, Any]:
    config = {"output_dimensionality": 128} | config
    content = {"parts": list(parts)}
    return {"key": key, "request": {"content": content, "embed_content_config": config}}


def online(api: BatchApi, *parts: dict[str, Any], vertex: bool = False, **more: Any) -> list[float]:
    base = "/v1beta1/publishers/google/models/" if vertex else "/v1beta/models/"
    body = {"content": {"parts": list(parts)}, "outputDimensionality": 128} | more
    response = api.http.post(f"{base}{MODEL}:embedContent", json=body)
    assert response.status_code == 200, response.text
    values: list[float] = response.json()["embedding"]["values"]
    return values


CONTENTS = {
    "image": [inline(RED)],
    "fused": [{"text": "a toy"}, inline(RED), inline(BLUE)],
    "sound": [inline(wav(2), "audio/wav")],
    "video": [inline(movie(50), "video/mp4")],
    "file": [inline(printed("one two"), "application/pdf")],
    "text": [{"text": "one two"}],
}


def test_a_job_has_the_vectors_and_tokens_of_online_calls() -> None:
    with batch_api() as api:
        job = api.submit(*(row(key, *parts) for key, parts in CONTENTS.items()), model=MODEL)
        found = {line["key"]: line["response"] for line in api.lines(job)}
        for key, parts in CONTENTS.items():
            assert found[key]["embedding"]["values"] == online(api, *parts)
        tokens = {key: one["tokenCount"] for key, one in found.items()}
        assert tokens == {
            "image": 258, "fused": 519, "sound": 50, "video": 32 * 66, "file": 258, "text": 2,
        }  # fmt: skip


def test_rows_with_media_are_billed_by_modality() -> None:
    with batch_api() as api:
        api.submit(*(row(key, *parts) for key, parts in CONTENTS.items()), model=MODEL)
        stats = api.server.stats()
        assert stats["tokens_by_modality"] == {
            "AUDIO": 50, "DOCUMENT": 258, "IMAGE": 774, "TEXT": 5, "VIDEO": 2112,
        }  # fmt: skip
        assert stats["tokens"] == stats["batch"]["tokens"] == 3199


def test_rows_with_media_hold_their_tokens_of_the_quota() -> None:
    with batch_api(seconds=100, enqueued_tokens=1000) as api:
        api.submit(row("a", inline(RED)), model=MODEL)
        assert api.counts["enqueued_tokens"] == 258
        rows = [row(str(number), inline(RED)) for number in range(3)]
        name = {"file_name": api.upload(b"\n".join(map(orjson.dumps, rows)))}
        response = api.create({"displayName": "b", "inputConfig": name}, MODEL)
        assert response.status_code == 429


def test_media_that_is_refused_fails_its_row_alone() -> None:
    with batch_api() as api:
        bad = {
            "gif": (inline(RED, "image/gif"), "Unsupported MIME type: image/gif"),
            "cut": (inline(RED[:99]), "Unable to process input image"),
            "long": (inline(wav(181), "audio/wav"), "at most 180 seconds"),
        }
        rows = [row(key, part) for key, (part, _) in bad.items()]
        job = api.submit(row("good", inline(RED)), *rows, row("seven", *[inline(RED)] * 7),
                         model=MODEL)  # fmt: skip
        found = {line["key"]: line for line in api.lines(job)}
        assert "response" in found["good"]
        for key, (_, words) in bad.items():
            assert words in found[key]["error"]["message"]
        assert "7 were provided" in found["seven"]["error"]["message"]
        assert api.counts["texts"] == 1


def test_a_file_with_a_word_in_it_fails_its_row() -> None:
    settings = EmulatorSettings(poison="bad word", batch=BatchSettings())
    with batch_api(settings) as api:
        job = api.submit(
            row("good", inline(RED)), row("bad", inline(RED + b"bad word")), model=MODEL
        )
        found = {line["key"]: line for line in api.lines(job)}
        assert "response" in found["good"]
        assert found["bad"]["error"]["message"] == "Request contains an invalid argument."


def test_a_text_model_fails_rows_with_media() -> None:
    with batch_api() as api:
        (line,) = api.lines(api.submit(row("a", inline(RED)), model="gemini-embedding-001"))
        assert "takes text only" in line["error"]["message"]


@pytest.fixture
def vertex(tmp_path: Path) -> Any:
    with vertex_batch_api(tmp_path) as found:
        yield found


def submit(vertex: VertexBatchApi, *rows: dict[str, Any]) -> str:
    return vertex.submit(*rows, path=JOBS, **VERTEX_JOB)


def put(vertex: VertexBatchApi, name: str, data: bytes, mime: str) -> dict[str, Any]:
    """Write an object; return the part that names it."""
    path = vertex.buckets / "media" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return {"fileData": {"fileUri": f"gs://media/{name}", "mimeType": mime}}


def test_vertex_reads_objects_that_rows_name(vertex: VertexBatchApi) -> None:
    parts = {
        "image": put(vertex, "red.png", RED, "image/png"),
        "video": put(vertex, "a.mp4", movie(50, sound=True), "video/mp4"),
        "inline": inline(BLUE),
    }
    rows = [vertex_row(key, part) for key, part in parts.items()]
    rows.append(vertex_row("heard", parts["video"], audio_track_extraction=True))
    found = {line["key"]: line for line in vertex.lines(submit(vertex, *rows))}
    for key, part in parts.items():
        expected = online(vertex.api, part, vertex=True)
        assert found[key]["response"]["embedding"]["values"] == expected
        assert found[key]["request"]["content"]["parts"] == [part]
    tokens = {key: line["response"]["tokenCount"] for key, line in found.items()}
    assert tokens == {"image": "258", "video": "3300", "inline": "258", "heard": "4550"}


def test_an_object_that_is_missing_fails_its_row_alone(vertex: VertexBatchApi) -> None:
    part = put(vertex, "red.png", RED, "image/png")
    missing = {"fileData": {"fileUri": "gs://media/none.png", "mimeType": "image/png"}}
    name = submit(vertex, vertex_row("a", part), vertex_row("b", missing))
    assert vertex.state(name) == "PARTIALLY_SUCCEEDED"
    failed = {line["key"]: line.get("status", "") for line in vertex.lines(name)}
    assert failed["a"] == ""
    assert failed["b"].startswith("INVALID_ARGUMENT: ")
    assert "not found" in failed["b"]


def test_an_object_that_is_deleted_while_its_job_runs_fails_its_row(tmp_path: Path) -> None:
    with vertex_batch_api(tmp_path, seconds=100) as vertex:
        kept = put(vertex, "red.png", RED, "image/png")
        gone = put(vertex, "blue.png", BLUE, "image/png")
        name = submit(vertex, vertex_row("kept", kept), vertex_row("gone", gone))
        (tmp_path / "media/blue.png").unlink()
        vertex.api.time.now_s += 100
        vertex.api.server.stats()
        assert vertex.state(name) == "PARTIALLY_SUCCEEDED"
        assert {line["key"]: "status" in line for line in vertex.lines(name)} == {
            "kept": False, "gone": True,
        }  # fmt: skip
        assert vertex.api.counts["texts"] == 1


def test_large_rows_are_processed_in_small_chunks(tmp_path: Path) -> None:
    path, sizes = tmp_path / "rows", [10] * 600 + [CHUNK_BYTES // 2] * 3 + [CHUNK_BYTES * 2] + [10]
    path.write_bytes(b"".join(b"x" * (size - 1) + b"\n" for size in sizes))
    table = RowTable(path)
    offset = 0
    for size in sizes:
        table.add(offset, 0, 0)
        offset += size
    chunks = list(table.chunks(range(len(table))))
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, 89, 2, 1, 1]
    assert [row for chunk in chunks for row in chunk] == list(range(len(table)))


def test_a_job_of_large_rows_needs_little_memory() -> None:
    big = inline(RED + bytes(1 << 20))
    with batch_api() as api:
        name = api.upload(b"\n".join(orjson.dumps(row(str(number), big)) for number in range(40)))
        tracemalloc.start()
        response = api.create({"displayName": "b", "inputConfig": {"file_name": name}}, MODEL)
        assert response.status_code == 200
        api.server.stats()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert api.counts["texts"] == 40
        assert peak < 8 * CHUNK_BYTES
