"""Settings of media are checked, and errors name the flag."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.media import (
    GEMINI_EMBEDDING_2_VERTEX,
    MediaFault,
    MediaKind,
    MediaLimits,
    media_tokens,
)
from bulkembed.schemas.media_settings import LongMedia, MediaCheck, MediaSettings, for_service


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_image_side": 15}, "--max-image-side 15 is too small"),
        ({"max_pixels": 0}, "--max-image-pixels 0 is too small"),
        ({"max_bytes": 0}, "--max-media-bytes 0 is too small"),
        ({"max_source_bytes": 0}, "--max-source-bytes 0 is too small"),
        ({"piece_seconds": 0.5}, "--piece-seconds 0.5 is too small"),
        ({"piece_seconds": 181}, "--piece-seconds 181: the model accepts at most 180 s"),
        ({"piece_seconds": float("nan")}, "--piece-seconds nan is too small"),
        ({"piece_pages": 7}, "--piece-pages 7: the model accepts at most 6 pages"),
        ({"piece_pages": 0}, "--piece-pages 0 is too small"),
        ({"piece_overlap_seconds": -1}, "--piece-overlap-seconds -1 is too small"),
        ({"piece_overlap_seconds": 61}, "--piece-overlap-seconds 61 is more than half"),
        ({"piece_seconds": 10, "piece_overlap_seconds": 6}, "piece of 10 s. Use at most 5"),
        ({"audio_track": True, "piece_overlap_seconds": 41}, "piece of 80 s. Use at most 40"),
        ({"piece_overlap_pages": 4}, "--piece-overlap-pages 4 is more than half"),
        ({"piece_pages": 1, "piece_overlap_pages": 1}, "piece of 1 page. Use at most 0"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MediaSettings(**values)
    assert words in caught.value.message


def test_settings_at_their_limits_are_allowed() -> None:
    MediaSettings(
        max_image_side=16,
        piece_seconds=180,
        piece_overlap_seconds=60,
        piece_pages=6,
        piece_overlap_pages=3,
    )


@pytest.mark.parametrize(
    ("kind", "length", "limits", "tokens"),
    [
        (MediaKind.IMAGE, {}, MediaLimits(), 258),
        (MediaKind.PDF, {"pages": 6}, MediaLimits(), 1548),
        (MediaKind.PDF, {}, MediaLimits(), 0),
        (MediaKind.AUDIO, {"seconds": 180.0}, MediaLimits(), 4500),
        (MediaKind.AUDIO, {"seconds": 0.01}, MediaLimits(), 1),
        (MediaKind.VIDEO, {"seconds": 120.0}, MediaLimits(), 32 * 66),
        (MediaKind.VIDEO, {"seconds": 9.5}, MediaLimits(), 10 * 66),
        (MediaKind.VIDEO, {"seconds": 120.0}, GEMINI_EMBEDDING_2_VERTEX, 120 * 66),
    ],
)
def test_tokens_of_media(
    kind: MediaKind, length: dict[str, Any], limits: MediaLimits, tokens: int
) -> None:
    assert media_tokens(kind, **length, limits=limits) == tokens


def test_a_fault_survives_pickling() -> None:
    fault = pickle.loads(pickle.dumps(MediaFault(DeadCode.TOO_LARGE, "the file is large")))
    assert (fault.code, fault.what, str(fault)) == (
        DeadCode.TOO_LARGE, "the file is large", "the file is large",
    )  # fmt: skip


def test_a_shorter_limit_of_the_model_holds_for_pieces() -> None:
    settings = MediaSettings(piece_seconds=150)
    assert settings.seconds_of_piece(MediaKind.AUDIO) == 150
    assert settings.seconds_of_piece(MediaKind.VIDEO) == 120


def test_the_audio_track_lowers_the_limit_of_a_video_that_has_one() -> None:
    settings = MediaSettings(piece_seconds=90, audio_track=True)
    assert settings.seconds_of_piece(MediaKind.VIDEO) == 90
    assert settings.seconds_of_piece(MediaKind.VIDEO, has_sound=True) == 80


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("document_ocr", "--document-ocr"),
        ("audio_track", "--audio-track"),
        ("by_uri", "--media-by-uri"),
    ],
)
def test_switches_of_vertex_are_refused_elsewhere(name: str, flag: str) -> None:
    settings = MediaSettings(**{name: True})
    assert getattr(for_service(settings, vertexai=True), name)
    with pytest.raises(ConfigError, match=f"{flag} works on Vertex AI only. Add --vertexai"):
        for_service(settings, vertexai=False)


def test_each_service_has_its_own_frames_of_a_video() -> None:
    assert for_service(MediaSettings(), vertexai=True).limits.frames == 120
    assert for_service(MediaSettings(), vertexai=False).limits.frames == 32


def test_words_may_be_strings() -> None:
    settings = MediaSettings(check="off", long_media="head")  # type: ignore[arg-type]
    assert settings.check is MediaCheck.OFF
    assert settings.long_media is LongMedia.HEAD
    with pytest.raises(ConfigError, match="unknown transcode 'no'"):
        MediaSettings(transcode="no")  # type: ignore[arg-type]
