"""Media in calls that embed, by raw HTTP on both services."""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from support.drawings import drawing
from support.media_samples import mp3, picture, saved, wav
from support.recordings import movie, printed

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.media_rules import MediaRules, TokenDetails, VertexBatch
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings, OverLimit

MODEL = "gemini-embedding-2"
BASE = {
    "developer": "/v1beta/models/",
    "vertex": "/v1beta1/projects/p/locations/us-central1/publishers/google/models/",
}
SERVICES = list(BASE)
RED = drawing("red", "circle")
PNG, JPEG, WAV, MP3 = "image/png", "image/jpeg", "audio/wav", "audio/mp3"
MP4, PDF = "video/mp4", "application/pdf"


@dataclasses.dataclass
class Api:
    """Calls of one service."""

    http: httpx2.Client
    service: str
    server: EmulatorServer

    def post(self, method: str, body: Any, model: str = MODEL) -> httpx2.Response:
        return self.http.post(f"{BASE[self.service]}{model}:{method}", json=body)

    def embed(self, *parts: Any, **more: Any) -> httpx2.Response:
        return self.post("embedContent", {"content": {"parts": list(parts)}} | more)

    def batch(self, *contents: list[Any], model: str = MODEL) -> httpx2.Response:
        requests = [{"model": f"models/{model}", "content": {"parts": parts}} for parts in contents]
        return self.post("batchEmbedContents", {"requests": requests}, model)


@contextmanager
def api(service: str, folder: Path | None = None, **settings: Any) -> Iterator[Api]:
    """Serve one of the services; `folder` has all buckets."""
    batch = BatchSettings(buckets=(("*", str(folder)),)) if folder else BatchSettings()
    with (
        EmulatorServer(EmulatorSettings(batch=batch, **settings)) as server,
        httpx2.Client(
            base_url=server.url, headers={"x-goog-api-key": "k"}, timeout=20
        ) as http,
    ):  # fmt: skip
        yield Api(http, service, server)


@pytest.fixture(scope="module", params=SERVICES)
def both(request: pytest.FixtureRequest) -> Iterator[Api]:
    with api(request.param) as found:
        yield found


def inline(data: bytes, mime: str = PNG) -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime, "data": base64.b64encode(data).decode()}}


def text(words: str) -> dict[str, Any]:
    return {"text": words}


def _words(count: int) -> str:
    return " ".join(["word"] * count)


def values(response: httpx2.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    body = response.json()
    found = [body["embedding"]] if "embedding" in body else body["embeddings"]
    return np.array([one["values"] for one in found])


def tokens(response: httpx2.Response) -> dict[str, int]:
    """Return the tokens by modality, and check that they add up."""
    assert response.status_code == 200, response.text
    usage = response.json()["usageMetadata"]
    details = usage.get("promptTokenDetails") or usage["promptTokensDetails"]
    found = {one["modality"]: one["tokenCount"] for one in details}
    assert sum(found.values()) == usage["promptTokenCount"]
    return found


def refusal(response: httpx2.Response, code: int = 400) -> str:
    assert response.status_code == code, response.text
    return str(response.json()["error"]["message"])


def test_one_content_has_one_vector_and_many_contents_have_many(both: Api) -> None:
    square = drawing("blue", "square")
    fused = values(both.embed(text("a toy"), inline(RED), inline(square)))
    assert fused.shape == (1, 3072)
    apart = values(both.batch([text("a toy")], [inline(RED)], [inline(square)]))
    assert apart.shape == (3, 3072)
    np.testing.assert_allclose(np.linalg.norm(np.vstack([fused, apart]), axis=1), 1, atol=1e-6)
    assert (fused @ apart.T > 0.4).all()
    assert (values(both.embed(inline(RED))) == apart[1]).all()
    assert (values(both.embed(text("a toy"))) == apart[0]).all()


def test_the_order_of_the_parts_makes_a_small_difference(both: Api) -> None:
    square = drawing("blue", "square")
    one, other = values(both.batch([inline(RED), inline(square)], [inline(square), inline(RED)]))
    assert 0.99 < one @ other < 0.99999


def test_words_find_the_image_that_they_describe(both: Api) -> None:
    drawn = [("red", "circle"), ("blue", "square"), ("red", "square"), ("blue", "circle")]
    images = values(both.batch(*[[inline(drawing(*one))] for one in drawn]))
    lines = [f"task: search result | query: a {colour} {shape}" for colour, shape in drawn]
    queries = values(both.batch(*[[text(line)] for line in lines]))
    assert (queries @ images.T).argmax(axis=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("names", [("inlineData", "mimeType"), ("inline_data", "mime_type")])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padding", [b"=", b""], ids=["padded", "bare"])
def test_both_spellings_and_both_alphabets_are_accepted(
    both: Api, names: tuple[str, str], encode: Any, padding: bytes
) -> None:
    data = saved(picture(size=(41, 30)), "PNG") + b"\xff\xfe\xfb\xef\xbe"
    assert {b"+", b"/"} & {bytes([one]) for one in base64.b64encode(data)}
    sent = encode(data).rstrip(b"=") + (b"" if padding == b"" else b"=" * (-len(data) % 3))
    part = {names[0]: {names[1]: PNG, "data": sent.decode()}}
    assert (values(both.embed(part)) == values(both.embed(inline(data)))).all()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        pytest.param([inline(RED, "image/gif")], "Unsupported MIME type: image/gif", id="gif"),
        pytest.param([inline(RED, "image/jpg")], "Unsupported MIME type: image/jpg", id="jpg"),
        pytest.param([inline(RED, "")], "Unsupported MIME type: ", id="no-type"),
        pytest.param(
            [inline(RED)] * 7,
            "Unable to submit request because the model supports at most 6 image parts per input "
            "instance, but 7 were provided.",
            id="seven-images",
        ),
        pytest.param([inline(printed("a"), PDF)] * 2, "at most 1 document parts", id="two-pdf"),
        pytest.param([inline(RED[:99])], "Unable to process input image", id="cut-image"),
        pytest.param([inline(b"<html>")], "Unable to process input image", id="html"),
        pytest.param([inline(RED, PDF)], "Unable to process input document", id="no-pdf"),
        pytest.param([inline(RED, WAV)], "Unable to process input audio", id="no-audio"),
        pytest.param([inline(RED, MP4)], "Unable to process input video", id="no-video"),
        pytest.param([inline(wav(180.5), WAV)], "at most 180 seconds of audio", id="audio"),
        pytest.param([inline(mp3(181), MP3)], "at most 180 seconds of audio", id="mp3"),
        pytest.param([inline(movie(121), MP4)], "at most 120 seconds of video", id="video"),
        pytest.param([inline(printed(*"1234567"), PDF)], "at most 6 document pages", id="pages"),
        pytest.param([inline(printed(), PDF)], "The document has no pages", id="no-pages"),
        pytest.param([inline(b"")], "contains an empty Part", id="empty"),
        pytest.param([text(" "), inline(RED)], "contains an empty Part", id="blank-text"),
        pytest.param([{}], "contains an empty Part", id="nothing"),
        pytest.param([text("a") | inline(RED)], "oneof field 'data' is already set", id="both"),
        pytest.param(
            [{"inlineData": {"mimeType": PNG, "data": "a*b"}}], "Base64 decoding failed",
            id="no-base64",
        ),
        pytest.param(
            [{"inlineData": {"mimeType": PNG, "data": "é"}}], "Base64 decoding failed",
            id="no-ascii",
        ),
        pytest.param([{"inlineData": {"mime": PNG}}], 'Unknown name "mime"', id="unknown-name"),
        pytest.param([{"inlineData": "abc"}], "Invalid value at", id="no-object"),
        pytest.param(
            [{"fileData": {"mimeType": PNG, "fileUri": "https://x.org/a.png"}}],
            "Cannot fetch content", id="https",
        ),
    ],
)  # fmt: skip
def test_what_the_service_refuses_fails_the_whole_call(
    both: Api, parts: list[Any], words: str
) -> None:
    assert words in refusal(both.embed(*parts))
    before = both.server.stats()["texts"]
    assert words in refusal(both.batch([text("fine")], parts, [inline(RED)]))
    assert both.server.stats()["texts"] == before


def test_a_model_for_text_refuses_media(both: Api) -> None:
    words = refusal(both.batch([inline(RED)], model="gemini-embedding-001"))
    assert "takes text only" in words


def test_media_at_the_limits_is_accepted(both: Api) -> None:
    for parts in (
        [inline(RED)] * 6,
        [inline(wav(180), WAV)],
        [inline(movie(120), MP4)],
        [inline(movie(5, brand=b"qt  "), "video/quicktime")],
        [inline(mp3(4), "audio/mpeg")],
        [inline(mp3(180 + 0.036), MP3)],
        [inline(printed(*"123456"), PDF)],
    ):
        assert values(both.embed(*parts)).shape == (1, 3072)


def test_tokens_are_counted_by_modality(both: Api) -> None:
    a_second = inline(wav(1.02), WAV)
    parts = [text("one two"), inline(RED), inline(RED), a_second, inline(printed("a", "b"), PDF)]
    found = tokens(both.embed(*parts))
    assert found == {"TEXT": 2, "IMAGE": 516, "AUDIO": 26, "DOCUMENT": 516}
    together = tokens(both.batch(parts, [text("one two")], [inline(RED)]))
    assert together == {"TEXT": 4, "IMAGE": 774, "AUDIO": 26, "DOCUMENT": 516}
    size = drawing("red", "circle", size=(900, 700))
    assert tokens(both.embed(inline(size))) == {"IMAGE": 258}
    counted = both.post("countTokens", {"contents": [{"parts": parts}]})
    assert counted.json()["totalTokens"] == sum(found.values())


def test_a_text_alone_has_tokens_of_text_only(both: Api) -> None:
    assert tokens(both.embed(text("one two"))) == {"TEXT": 2}


@pytest.mark.parametrize(
    ("service", "seconds", "frames"),
    [("developer", 10, 10), ("developer", 100, 32), ("vertex", 10, 10), ("vertex", 100, 100)],
)
def test_the_services_look_at_different_frames_of_a_video(
    service: str, seconds: float, frames: int
) -> None:
    with api(service) as one:
        found = tokens(one.embed(inline(movie(seconds, sound=True), MP4)))
        assert found == {"VIDEO": 66 * frames}


def test_the_services_have_different_vectors_of_one_video_and_the_same_of_one_image() -> None:
    with api("developer") as developer:
        vertex = Api(developer.http, "vertex", developer.server)
        video, image = inline(movie(60), MP4), inline(RED)
        assert not np.allclose(values(developer.embed(video)), values(vertex.embed(video)))
        assert (values(developer.embed(image)) == values(vertex.embed(image))).all()


def test_vertex_hears_the_audio_track_on_request() -> None:
    with api("vertex") as one:
        heard = {"embedContentConfig": {"audioTrackExtraction": True}}
        video, silent = inline(movie(80, sound=True), MP4), inline(movie(100), MP4)
        response = one.embed(video, **heard)
        assert tokens(response) == {"VIDEO": 66 * 80, "AUDIO": 25 * 80}
        assert not np.allclose(values(response), values(one.embed(video)))
        assert tokens(one.embed(silent, **heard)) == {"VIDEO": 6600}
        longer = inline(movie(81, sound=True), MP4)
        assert "at most 80 seconds of video" in refusal(one.embed(longer, **heard))
        assert tokens(one.embed(longer)) == {"VIDEO": 66 * 81}


def test_vertex_reads_the_text_of_a_pdf_file_on_request() -> None:
    with api("vertex") as one:
        ocr = {"embed_content_config": {"document_ocr": True}}
        file, blank = inline(printed("one two"), PDF), inline(printed(""), PDF)
        response = one.embed(file, **ocr)
        assert tokens(response) == {"DOCUMENT": 258, "TEXT": 2}
        assert not np.allclose(values(response), values(one.embed(file)))
        assert tokens(one.embed(blank, **ocr)) == {"DOCUMENT": 258}


def test_the_developer_api_has_neither_switch() -> None:
    with api("developer") as one:
        for name in ("documentOcr", "audioTrackExtraction"):
            assert "Unknown name" in refusal(one.embed(inline(RED), **{name: True}))


def test_models_of_texts_have_neither_switch() -> None:
    text = {"parts": [{"text": "a"}]}
    with api("vertex") as one:
        for name in ("documentOcr", "audioTrackExtraction"):
            body = {"content": text, "embedContentConfig": {name: True}}
            answer = one.post("embedContent", body, "gemini-embedding-001")
            assert f"{name} is not supported" in refusal(answer)


def test_a_pdf_file_is_near_its_own_words(both: Api) -> None:
    files = [printed("The dog sees the vet"), printed("Shares of the bank fell")]
    found = values(both.batch(*[[inline(one, PDF)] for one in files]))
    query = values(both.embed(text("a dog at the vet")))
    assert query @ found[0] > query @ found[1] + 0.3


def test_tokens_beyond_the_limit_are_cut_silently_in_the_order_of_the_parts(both: Api) -> None:
    long, image = text(_words(8000)), inline(RED)
    response = both.embed(long, image)
    assert tokens(response) == {"TEXT": 8000, "IMAGE": 192}
    assert response.json().get("truncated", True) is True
    beyond = both.embed(text(_words(8192)), image)
    assert tokens(beyond) == {"TEXT": 8192}
    assert values(beyond) @ values(both.embed(text("word"))).T > 0.999
    assert tokens(both.embed(image, long)) == {"TEXT": 7934, "IMAGE": 258}


def test_an_option_refuses_what_is_beyond_the_limit(both: Api) -> None:
    parts = [text(_words(8000)), inline(RED)]
    with api(both.service, long_text=OverLimit.REFUSE) as strict:
        assert "(8192)" in refusal(strict.embed(*parts))
    if both.service == "vertex":
        config = {"embedContentConfig": {"autoTruncate": False}}
        assert "(8192)" in refusal(both.embed(*parts, **config))


def test_types_that_lie_are_accepted_unless_an_option_refuses_them(both: Api) -> None:
    lies = [(RED, JPEG), (saved(picture(), "WEBP"), PNG), (wav(1), MP3), (movie(1), "video/mov")]
    assert (values(both.embed(inline(RED, JPEG))) == values(both.embed(inline(RED)))).all()
    with api(both.service, media=MediaRules(refuse_wrong_types=True)) as strict:
        for data, mime in lies:
            assert values(both.embed(inline(data, mime))).shape == (1, 3072)
            assert "Unable to process input" in refusal(strict.embed(inline(data, mime)))
        assert values(strict.embed(inline(RED))).shape == (1, 3072)


def test_odd_images_are_accepted_unless_an_option_refuses_them() -> None:
    odd = inline(saved(picture("CMYK"), "JPEG"), JPEG)
    for refused, status in ((False, 200), (True, 400)):
        with api("developer", media=MediaRules(refuse_odd_images=refused)) as one:
            assert one.embed(odd).status_code == status
            assert one.embed(inline(RED)).status_code == 200


def test_an_option_cuts_what_is_too_long() -> None:
    with api("developer", media=MediaRules(cut_long=True)) as one:
        assert tokens(one.embed(inline(wav(200), WAV))) == {"AUDIO": 4500}
        assert tokens(one.embed(inline(printed(*"1234567"), PDF))) == {"DOCUMENT": 1548}


def test_an_option_limits_the_images_of_a_call() -> None:
    with api("developer", media=MediaRules(call_images=3)) as one:
        assert values(one.batch(*[[inline(RED)]] * 3)).shape == (3, 3072)
        assert "at most 3 image parts per request" in refusal(one.batch(*[[inline(RED)]] * 4))


def test_a_body_with_media_may_be_larger_than_one_of_texts(both: Api) -> None:
    large = inline(RED + bytes(4 << 20))
    assert values(both.embed(large)).shape == (1, 3072)
    assert "4194304 bytes" in refusal(both.embed(text("word " * 900_000)))


@pytest.mark.parametrize("status", [400, 413])
def test_an_option_limits_bodies_with_media(both: Api, status: int) -> None:
    rules = MediaRules(body_bytes=5 << 20, body_status=status)
    with api(both.service, media=rules) as one:
        assert values(one.embed(inline(RED + bytes(3 << 20)))).shape == (1, 3072)
        response = one.embed(inline(RED + bytes(4 << 20)))
        assert response.status_code == status
        page = response.headers["content-type"].startswith("text/html")
        assert page == (status == 413)


def test_objects_of_a_bucket_are_read_on_both_services(both: Api, tmp_path: Path) -> None:
    (tmp_path / "pictures/new").mkdir(parents=True)
    (tmp_path / "pictures/new/red.png").write_bytes(RED)
    with api(both.service, tmp_path) as one:
        for file, uri, mime in (("fileData", "fileUri", "mimeType"),
                                ("file_data", "file_uri", "mime_type")):  # fmt: skip
            part = {file: {uri: "gs://pictures/new/red.png", mime: PNG}}
            assert (values(one.embed(part)) == values(one.embed(inline(RED)))).all()
        missing = {"fileData": {"fileUri": "gs://pictures/none.png", "mimeType": PNG}}
        assert "not found" in refusal(one.embed(missing))
        untyped = {"fileData": {"fileUri": "gs://pictures/new/red.png"}}
        assert "Unsupported MIME type" in refusal(one.embed(untyped))


def test_an_option_keeps_buckets_from_the_developer_api(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/red.png").write_bytes(RED)
    part = {"fileData": {"fileUri": "gs://b/red.png", "mimeType": PNG}}
    with api("developer", tmp_path, media=MediaRules(developer_gs=False)) as one:
        assert "Cannot fetch content" in refusal(one.embed(part))
        vertex = Api(one.http, "vertex", one.server)
        assert values(vertex.embed(part)).shape == (1, 3072)


@pytest.mark.parametrize(
    ("choice", "words"), [(VertexBatch.MISSING, "batchEmbedContents"), (VertexBatch.PAGE, "<html>")]
)
def test_an_option_removes_the_batch_method_of_vertex(choice: VertexBatch, words: str) -> None:
    with api("vertex", vertex_batch=choice) as one:
        response = one.batch([inline(RED)], [text("a")])
        assert response.status_code == 404
        assert words in response.text
        assert values(one.embed(inline(RED))).shape == (1, 3072)
        developer = Api(one.http, "developer", one.server)
        assert values(developer.batch([inline(RED)], [text("a")])).shape == (2, 3072)


@pytest.mark.parametrize("choice", TokenDetails)
def test_an_option_names_the_field_of_tokens_by_modality(choice: TokenDetails, both: Api) -> None:
    with api(both.service, token_details=choice) as one:
        usage = one.embed(inline(RED)).json()["usageMetadata"]
    found = {name for name in usage if name.endswith("Details")}
    own = "promptTokensDetails" if both.service == "vertex" else "promptTokenDetails"
    expected = {
        TokenDetails.BY_SERVICE: {own}, TokenDetails.NONE: set(),
        TokenDetails.BOTH: {"promptTokenDetails", "promptTokensDetails"},
    }  # fmt: skip
    assert found == expected.get(choice, {choice.value})
    assert usage["promptTokenCount"] == 258


def test_stats_and_quotas_count_media() -> None:
    with api("developer", tpm=600) as one:
        parts = [text("one two"), inline(RED)]
        one.batch(parts, [inline(RED)])
        stats = one.server.stats()
        assert stats["tokens_by_modality"] == {"IMAGE": 516, "TEXT": 2}
        assert (stats["tokens"], stats["texts"], stats["distinct_texts"]) == (518, 2, 2)
        assert one.embed(inline(RED)).status_code == 429
        assert one.embed(text("one")).status_code == 200


def test_equal_media_is_known_as_paid_twice() -> None:
    with api("developer") as one:
        for part in (inline(RED), inline(RED), inline(drawing("red", "ring"))):
            one.embed(part)
        one.embed(text("a"), inline(RED))
        assert one.server.stats()["texts_paid_twice"] == 1
        stats = json.loads(one.http.get("/stats").text)
        assert stats["tokens_by_modality"]["IMAGE"] == 4 * 258


def test_a_file_of_the_files_api_is_read_on_the_developer_api() -> None:
    with api("developer") as one:
        start = one.http.post(
            "/upload/v1beta/files",
            json={"file": {}},
            headers={
                "X-Goog-Upload-Protocol": "resumable",
                "X-Goog-Upload-Command": "start",
                "X-Goog-Upload-Header-Content-Length": str(len(RED)),
                "X-Goog-Upload-Header-Content-Type": PNG,
            },
        )
        headers = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"}
        url = start.headers["x-goog-upload-url"]
        file = one.http.post(url, content=RED, headers=headers).json()["file"]
        expected = values(one.embed(inline(RED)))
        for uri in (file["uri"], file["name"]):
            assert (values(one.embed({"fileData": {"fileUri": uri}})) == expected).all()
        vertex = Api(one.http, "vertex", one.server)
        part = {"fileData": {"fileUri": file["uri"], "mimeType": PNG}}
        assert "Cannot fetch content" in refusal(vertex.embed(part))


@pytest.mark.parametrize(("name", "status"), [("poison", 400), ("sick", 503)])
def test_a_file_with_a_word_in_it_fails_its_call(name: str, status: int) -> None:
    marked = RED + b"a bad word"
    with api("developer", **{name: "bad word"}) as one:
        assert one.batch([inline(RED)], [inline(marked)]).status_code == status
        assert one.batch([inline(RED)]).status_code == 200
        assert one.server.stats()["texts"] == 1


@pytest.mark.parametrize(("package", "part"), [
    ("PIL", inline(drawing("red", "circle", radius=41))),
    ("pypdf", inline(printed("nobody has read this"), PDF)),
])  # fmt: skip
def test_the_error_without_a_library_names_the_extra(
    package: str, part: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with api("developer") as one:
        assert "pip install 'bulkembed[media]'" in refusal(one.embed(part), 501)
        assert values(one.embed(text("one two"))).shape == (1, 3072)
