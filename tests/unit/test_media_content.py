"""Contents of several parts: their hashes and sizes."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig
from bulkembed.schemas.job import CallSettings, EmbedderConfig
from bulkembed.schemas.media import MediaKind
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.transforms.clients.requests import RequestWriter
from bulkembed.transforms.core.content import REQUEST_BYTES
from bulkembed.transforms.core.hashing import text_hash
from bulkembed.transforms.core.media_content import (
    MediaContent,
    SentPart,
    StoredMedia,
    media_content,
    parts_hash,
)
from bulkembed.transforms.core.packing import pack
from bulkembed.transforms.core.quota_limits import max_call_size
from bulkembed.transforms.core.tokens import TokenEstimator

EMBEDDING = EmbeddingConfig("developer", "gemini-embedding-2", media=MediaSettings())
PARTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    | st.tuples(st.sampled_from(MediaKind), st.binary(max_size=6)),
    min_size=1,
    max_size=4,
)


class Bytes:
    """A store of bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, start: int, size: int) -> bytes:
        return self.data[start : start + size]


def image(size: int, tokens: int = 258) -> StoredMedia:
    store = Bytes(b"?" * 3 + bytes(i % 256 for i in range(size)) + b"?")
    return StoredMedia(MediaKind.IMAGE, "image/png", tokens, store, 3, size)


def content(*parts: SentPart, index: int = 0) -> MediaContent:
    return media_content(index, b"h" * 16, parts, EMBEDDING.spec, TokenEstimator(8192))


@given(PARTS, PARTS)
def test_contents_have_one_hash_only_if_all_of_their_parts_are_equal(
    one: list[str | tuple[MediaKind, bytes]], other: list[str | tuple[MediaKind, bytes]]
) -> None:
    assert (parts_hash(one) == parts_hash(other)) is (one == other)
    assert len(parts_hash(one)) == 16


def test_the_hash_of_parts_is_pinned_and_never_that_of_a_text() -> None:
    found = parts_hash(["a red boot", (MediaKind.IMAGE, b"\x89PNG")])
    assert found.hex() == "21732e73979e6b0e6868b8df1c072cef"
    assert parts_hash(["a"]) != text_hash(None, "a")
    assert parts_hash([(MediaKind.PDF, b"x")]) != parts_hash([(MediaKind.IMAGE, b"x")])


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50), st.integers(1, 2000))
@pytest.mark.parametrize("vertexai", [False, True])
def test_the_size_of_a_body_is_never_above_what_was_counted(
    vertexai: bool, text: str, size: int
) -> None:
    one = content(text, image(size), image(1))
    writer = RequestWriter(ServiceConfig(vertexai=vertexai), EMBEDDING)
    (request,) = writer.body([one, one])["requests"][:1]
    assert len(json.dumps(request)) <= one.body_bytes + REQUEST_BYTES
    assert len(json.dumps(request)) > one.body_bytes - 64 * 3 - 20


@pytest.mark.parametrize("vertexai", [False, True])
def test_a_request_has_the_parts_in_order_with_their_true_types(vertexai: bool) -> None:
    writer = RequestWriter(ServiceConfig(vertexai=vertexai), EMBEDDING)
    body = writer.body([content("a red boot", image(5))])
    request = body if vertexai else body["requests"][0]
    words, picture = request["content"]["parts"]
    assert words == {"text": "a red boot"}
    assert picture["inlineData"]["mimeType"] == "image/png"
    assert base64.b64decode(picture["inlineData"]["data"]) == bytes(range(5))


@pytest.mark.parametrize("contents", [1, 2])
def test_switches_of_vertex_are_sent_beside_media_of_their_kind_only(contents: int) -> None:
    on = dataclasses.replace(EMBEDDING, media=MediaSettings(document_ocr=True, audio_track=True))
    writer = RequestWriter(ServiceConfig(vertexai=True), on)
    sent = {}
    for kind in MediaKind:
        body = writer.body([content("x", dataclasses.replace(image(5), kind=kind))] * contents)
        request = body if contents == 1 else body["requests"][1]
        sent[kind] = request.get("embedContentConfig")
    assert sent == {
        MediaKind.IMAGE: None,
        MediaKind.AUDIO: None,
        MediaKind.VIDEO: {"audioTrackExtraction": True},
        MediaKind.PDF: {"documentOcr": True},
    }
    off = RequestWriter(ServiceConfig(vertexai=True), EMBEDDING)
    assert "embedContentConfig" not in off.body([content(image(5))])


def test_an_audio_track_has_the_price_of_audio() -> None:
    video = dataclasses.replace(image(5, 660 + 250), kind=MediaKind.VIDEO, audio_tokens=250)
    one = content(video)
    assert one.tokens == 910
    # 12.00 and 6.50 USD per million tokens, as tokens of text at 0.20 USD.
    assert one.billed_tokens == pytest.approx(660 * 60 + 250 * 32.5, abs=1)
    assert one.billed_bound == one.billed_tokens


def test_the_text_that_a_service_reads_may_fill_the_content() -> None:
    pdf = dataclasses.replace(image(5), kind=MediaKind.PDF, has_text=True)
    assert content(pdf).tokens == 258
    assert content(pdf).token_bound == 8192
    assert content(pdf).billed_bound >= 8192 - 258 + 258 * 0.45 / 0.20


def test_tokens_are_those_of_the_text_and_of_the_media() -> None:
    alone, beside = content(image(9)), content("a red boot", image(9), image(7))
    assert (alone.tokens, alone.media_tokens) == (258, 258)
    assert beside.media_tokens == 516
    assert 516 < beside.tokens < 530
    assert beside.token_bound == 516 + len("a red boot")
    assert content(*[image(1, 7000)] * 2).tokens == 8192
    assert content(image(1, 0)).token_bound == 8192


def test_shared_calls_have_at_most_3_5_mb_and_a_larger_content_is_alone() -> None:
    limits = max_call_size(EmbedderConfig(ServiceConfig(), EMBEDDING, CallSettings()))
    sizes = [1_200_000, 1_200_000, 1_200_000, 15_000_000, 10]
    calls = pack([content(image(size), index=i) for i, size in enumerate(sizes)], limits)
    assert [[one.index for one in call] for call in calls] == [[0, 1], [2], [3], [4]]
