"""Files and batch jobs of the emulator, as google-genai calls them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google import genai
from google.genai import errors, types
from support.batch_api import MODEL, BatchApi, batch_api, row

pytestmark = pytest.mark.filterwarnings("ignore:.*is experimental")


@pytest.fixture
def api() -> Iterator[BatchApi]:
    with batch_api(seconds=100) as api:
        yield api


@pytest.fixture
def client(api: BatchApi) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=api.server.url, api_version="v1beta")
    with genai.Client(api_key="k", vertexai=False, http_options=options) as client:
        yield client


def test_a_job_gives_the_vectors_of_online_calls(
    api: BatchApi, client: genai.Client, tmp_path: Path
) -> None:
    texts = [f"pets and shares, number {number}" for number in range(300)]
    rows = [row(str(number), text) for number, text in enumerate(texts)]
    rows[7]["request"] |= {"task_type": "RETRIEVAL_DOCUMENT", "title": "About"}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    file = client.files.upload(file=path, config={"mime_type": "application/jsonl"})
    assert file.name is not None
    assert file.size_bytes == path.stat().st_size
    job = client.batches.create_embeddings(
        model=MODEL, src={"file_name": file.name}, config={"display_name": "a job"}
    )
    assert job.name is not None
    assert (job.state, job.display_name) == (types.JobState.JOB_STATE_PENDING, "a job")
    api.time.now_s += 50
    assert client.batches.get(name=job.name).state == types.JobState.JOB_STATE_RUNNING
    api.time.now_s += 50
    job = client.batches.get(name=job.name or "")
    assert job.state == types.JobState.JOB_STATE_SUCCEEDED
    assert job.dest is not None
    assert job.dest.file_name is not None
    client.files.download(file=job.dest.file_name, destination=tmp_path / "results.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    keys = [line["key"] for line in lines]
    assert keys != sorted(keys, key=int)
    found = {line["key"]: line["response"]["embedding"]["values"] for line in lines}
    for start in range(0, 300, 100):
        online = client.models.embed_content(
            model=MODEL,
            contents=[
                types.Content(parts=[types.Part(text=t)]) for t in texts[start : start + 100]
            ],
            config={"output_dimensionality": 128},
        )
        for number, embedding in enumerate(online.embeddings or [], start):
            if number != 7:
                assert found[str(number)] == pytest.approx(embedding.values, abs=0)
    titled = client.models.embed_content(
        model=MODEL, contents=texts[7],
        config={"output_dimensionality": 128, "task_type": "RETRIEVAL_DOCUMENT", "title": "About"},
    )  # fmt: skip
    assert titled.embeddings is not None
    assert found["7"] == titled.embeddings[0].values
    stats = api.server.stats()
    assert stats["batch"]["texts"] == 300
    # All but the titled text were paid for twice: as rows and online.
    assert stats["texts_paid_twice"] == 300
    assert stats["batch"]["files_left"] == 2
    for one in client.files.list():
        client.files.delete(name=one.name or "")
    client.batches.delete(name=job.name or "")
    assert api.counts["files_left"] == api.counts["jobs_left"] == 0
    assert list(client.batches.list()) == []


def test_an_inline_job_answers_out_of_order(api: BatchApi, client: genai.Client) -> None:
    contents = [types.Content(parts=[types.Part(text=f"text {n}")]) for n in range(20)]
    job = client.batches.create_embeddings(
        model=MODEL,
        src={"inlined_requests": {"contents": contents, "config": {"output_dimensionality": 128}}},
    )
    api.time.now_s += 100
    job = client.batches.get(name=job.name or "")
    assert job.dest is not None
    answers = job.dest.inlined_embed_content_responses or []
    found = [one.response.embedding.values for one in answers if one.response is not None]
    online = client.models.embed_content(
        model=MODEL, contents=contents, config={"output_dimensionality": 128}
    )
    wanted = [one.values for one in online.embeddings or []]
    assert found != wanted
    assert np.array_equal(sorted(found), sorted(wanted))


def test_a_job_is_cancelled_once(api: BatchApi, client: genai.Client) -> None:
    name = api.submit(row("a", "text"))
    client.batches.cancel(name=name)
    assert client.batches.get(name=name).state == types.JobState.JOB_STATE_CANCELLED
    with pytest.raises(errors.ClientError, match="is over"):
        client.batches.cancel(name=name)
    assert api.server.stats()["texts"] == 0


def test_jobs_are_listed_in_pages_the_newest_first(api: BatchApi, client: genai.Client) -> None:
    for number in range(5):
        api.submit(row("a", "text"), name=f"job {number}")
    pager = client.batches.list(config={"page_size": 2})
    first = [job.display_name for job in pager.page]
    api.submit(row("a", "text"), name="job 5")
    names = first + [job.display_name for job in pager][2:]
    assert names == ["job 4", "job 3", "job 2", "job 1", "job 0"]


def test_an_upload_of_several_pieces_arrives_whole(api: BatchApi, client: genai.Client) -> None:
    data = bytes(range(256)) * (9 << 12)  # The SDK's pieces have 8 MiB.
    file = client.files.upload(file=io.BytesIO(data), config={"mime_type": "application/jsonl"})
    assert file.size_bytes == len(data)
    assert api.counts["calls"]["upload"] == {"200": 2}
    with pytest.raises(ValueError, match="uploaded files can't be downloaded"):
        client.files.download(file=file)
