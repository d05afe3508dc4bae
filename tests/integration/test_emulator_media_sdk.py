"""Media through google-genai, on both services."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google import genai
from google.genai import errors, types
from support.drawings import drawing
from support.media_samples import wav
from support.recordings import movie, printed

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.media_rules import VertexBatch
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

MODEL = "gemini-embedding-2"
RED, BLUE = drawing("red", "circle"), drawing("blue", "square", form="JPEG")
pytestmark = pytest.mark.filterwarnings("ignore:.*is experimental")


@pytest.fixture(params=["developer", "vertex"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[genai.Client]:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket/red.png").write_bytes(RED)
    settings = EmulatorSettings(batch=BatchSettings(buckets=(("*", str(tmp_path)),)))
    with EmulatorServer(settings) as server, make_client(server, request.param) as client:
        yield client


def make_client(server: EmulatorServer, service: str) -> genai.Client:
    version = "v1beta1" if service == "vertex" else "v1beta"
    options = types.HttpOptions(base_url=server.url, api_version=version)
    return genai.Client(api_key="k", vertexai=service == "vertex", http_options=options)


def content(*parts: str | types.Part) -> types.Content:
    return types.Content(
        parts=[types.Part(text=part) if isinstance(part, str) else part for part in parts]
    )


def image(data: bytes, mime: str = "image/png") -> types.Part:
    return types.Part.from_bytes(data=data, mime_type=mime)


def vectors(client: genai.Client, *contents: Any, **config: Any) -> np.ndarray:
    found = client.models.embed_content(
        model=MODEL, contents=list(contents), config=types.EmbedContentConfig(**config)
    )
    assert found.embeddings is not None
    return np.array([one.values for one in found.embeddings])


def test_contents_with_media_have_a_vector_each(client: genai.Client) -> None:
    parts = [
        image(RED), image(BLUE, "image/jpeg"), image(wav(1), "audio/wav"),
        image(movie(3), "video/mp4"), image(printed("one two"), "application/pdf"),
    ]  # fmt: skip
    contents = [content(part) for part in parts] + [content("a toy", parts[0], parts[1])]
    together = vectors(client, *contents, output_dimensionality=768)
    assert together.shape == (6, 768)
    for row, one in enumerate(contents):
        assert (vectors(client, one, output_dimensionality=768)[0] == together[row]).all()


def test_a_list_of_parts_is_fused_into_one_vector(client: genai.Client) -> None:
    fused = vectors(client, "a toy", image(RED))
    assert fused.shape == (1, 3072)
    assert (fused == vectors(client, content("a toy", image(RED)))).all()


def test_a_part_from_a_bucket_is_the_part_from_its_bytes(client: genai.Client) -> None:
    part = types.Part.from_uri(file_uri="gs://bucket/red.png", mime_type="image/png")
    assert (vectors(client, content(part)) == vectors(client, content(image(RED)))).all()


def test_errors_have_the_words_of_the_service(client: genai.Client) -> None:
    for parts, words in (
        ([image(RED)] * 7, "at most 6 image parts per input instance, but 7 were provided"),
        ([image(RED, "image/gif")], "Unsupported MIME type: image/gif"),
        ([image(RED[:50])], "Unable to process input image"),
    ):
        with pytest.raises(errors.ClientError, match=words):
            vectors(client, content(*parts))


def test_the_switches_of_vertex_change_vectors_and_tokens() -> None:
    with EmulatorServer() as server, make_client(server, "vertex") as client:
        video = content(image(movie(3, sound=True), "video/mp4"))
        file = content(image(printed("one two"), "application/pdf"))
        plain = vectors(client, video), vectors(client, file)
        assert not np.allclose(vectors(client, video, audio_track_extraction=True), plain[0])
        assert not np.allclose(vectors(client, file, document_ocr=True), plain[1])
        found = client.models.embed_content(
            model=MODEL, contents=[video], config={"audio_track_extraction": True}
        )
        assert found.embeddings is not None
        statistics = found.embeddings[0].statistics
        assert statistics is not None
        assert statistics.token_count == 3 * 66 + 75
        details = {str(one.modality): one.token_count for one in statistics.tokens_details or []}
        assert details == {"MediaModality.VIDEO": 198, "MediaModality.AUDIO": 75}


def test_the_sdk_gets_a_404_where_vertex_has_no_batch_method() -> None:
    settings = EmulatorSettings(vertex_batch=VertexBatch.MISSING)
    with EmulatorServer(settings) as server, make_client(server, "vertex") as client:
        assert vectors(client, content(image(RED))).shape == (1, 3072)
        with pytest.raises(errors.ClientError) as caught:
            vectors(client, content(image(RED)), content(image(BLUE, "image/jpeg")))
        assert caught.value.code == 404


def test_a_batch_job_embeds_an_uploaded_picture() -> None:
    with EmulatorServer() as server, make_client(server, "developer") as client:
        upload = client.files.upload(file=io.BytesIO(RED), config={"mime_type": "image/png"})
        named = {"fileData": {"fileUri": upload.uri, "mimeType": upload.mime_type}}
        row = {"key": "a", "request": {"content": {"parts": [named]}}}
        rows = client.files.upload(
            file=io.BytesIO(json.dumps(row).encode()), config={"mime_type": "application/jsonl"}
        )
        job = client.batches.create_embeddings(model=MODEL, src={"file_name": rows.name})
        job = client.batches.get(name=job.name or "")
        assert job.dest is not None
        lines = client.files.download(file=job.dest.file_name or "").splitlines()
        found = json.loads(lines[0])["response"]["embedding"]["values"]
        assert (vectors(client, content(image(RED)))[0] == found).all()
