"""Broken and odd media ends as a dead letter with a reason; the rest is sent as it is."""

from __future__ import annotations

import contextlib
import dataclasses

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from support.media_samples import (
    id3,
    mp3,
    mp4,
    opened,
    pdf,
    picture,
    png_chunk,
    saved,
    wav,
    xing,
)
from support.odd_media import AUDIO, GOOD, IMAGE, JPEG, ODD, PDF, PNG, SETTINGS, VIDEO
from support.recordings import movie

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import GEMINI_EMBEDDING_2_VERTEX, MediaFault, MediaKind, MediaLimits
from bulkembed.schemas.media_settings import LongMedia, MediaCheck, MediaSettings, Transcode
from bulkembed.transforms.media.media_types import true_type
from bulkembed.transforms.media.prepare_media import prepare_media


@pytest.mark.parametrize(
    ("kind", "data", "code", "words"), [pytest.param(*row[1:], id=row[0]) for row in ODD]
)
def test_odd_media_is_a_dead_letter_with_the_reason(
    kind: MediaKind, data: bytes, code: str, words: str
) -> None:
    with pytest.raises(MediaFault) as caught:
        prepare_media(data, kind, SETTINGS)
    assert (caught.value.code, words in str(caught.value)) == (code, True), str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("check", MediaCheck)
@pytest.mark.parametrize(
    ("kind", "data", "mime"), [pytest.param(*row[1:], id=row[0]) for row in GOOD]
)
def test_what_the_model_accepts_passes_byte_for_byte(
    kind: MediaKind, data: bytes, mime: str, check: MediaCheck
) -> None:
    (part,) = prepare_media(data, kind, dataclasses.replace(SETTINGS, check=check))
    assert part.data is data
    assert (part.kind, part.mime) == (kind, mime)
    assert part.tokens > 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(saved(picture(), "WEBP"), "a WEBP image is not accepted", id="webp"),
        pytest.param(saved(picture("CMYK"), "JPEG"), "a CMYK image is not accepted", id="cmyk"),
        pytest.param(saved(picture("P"), "PNG"), "a PNG image with a palette", id="palette"),
        pytest.param(saved(picture().convert("I;16"), "PNG"), "16 bits per channel", id="16-bit"),
    ],
)
def test_without_transcoding_refused_images_are_dead_letters(data: bytes, words: str) -> None:
    with pytest.raises(MediaFault, match=words) as caught:
        prepare_media(data, IMAGE, MediaSettings(transcode=Transcode.OFF))
    assert caught.value.code is DeadCode.UNSUPPORTED_TYPE


@pytest.mark.parametrize("check", [MediaCheck.DECODE, MediaCheck.HEADER])
def test_an_animated_png_image_is_sent_as_its_first_frame(check: MediaCheck) -> None:
    frames = [picture().rotate(turn) for turn in (0, 180)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    (part,) = prepare_media(data, IMAGE, MediaSettings(check=check))
    sent = opened(part.data)
    assert getattr(sent, "n_frames", 1) == 1
    assert sent.getpixel((2, 15)) < sent.getpixel((37, 15))
    with pytest.raises(MediaFault, match="an animated PNG image is not accepted"):
        prepare_media(data, IMAGE, MediaSettings(check=check, transcode=Transcode.OFF))


def test_a_png_image_of_one_frame_may_mention_animation_in_its_pixels() -> None:
    data = PNG[:33] + png_chunk(b"tEXt", b"a\0acTL") + PNG[33:]
    (part,) = prepare_media(data, IMAGE, MediaSettings())
    assert part.data is data


def test_a_header_check_does_not_decode() -> None:
    settings = MediaSettings(check=MediaCheck.HEADER)
    (part,) = prepare_media(JPEG[:-99], IMAGE, settings)
    assert (part.width, part.height) == (40, 30)
    with pytest.raises(MediaFault, match="cannot be decoded"):
        prepare_media(JPEG[:9], IMAGE, settings)


@pytest.mark.parametrize(
    ("kind", "data"),
    [(AUDIO, wav(1)[:-9]), (VIDEO, mp4(200)), (PDF, pdf(7)), (PDF, pdf(2)[:99])],
    ids=["cut-off", "too-long", "too-many-pages", "damaged"],
)
def test_without_checks_the_service_decides(kind: MediaKind, data: bytes) -> None:
    (part,) = prepare_media(data, kind, MediaSettings(check=MediaCheck.OFF))
    assert part.data is data


def test_without_checks_refused_types_are_still_transcoded() -> None:
    settings = MediaSettings(check=MediaCheck.OFF)
    (part,) = prepare_media(saved(picture(), "WEBP"), IMAGE, settings)
    assert opened(part.data).format == "JPEG"


SOURCES = {
    "jpeg": (IMAGE, JPEG),
    "progressive": (IMAGE, saved(picture(), "JPEG", progressive=True)),
    "cmyk": (IMAGE, saved(picture("CMYK"), "JPEG")),
    "png": (IMAGE, PNG),
    "palette": (IMAGE, saved(picture("P"), "PNG")),
    "gif": (IMAGE, saved(picture(), "GIF", save_all=True, append_images=[picture().rotate(90)])),
    "webp": (IMAGE, saved(picture(), "WEBP")),
    "bmp": (IMAGE, saved(picture(), "BMP")),
    "tiff": (IMAGE, saved(picture(), "TIFF")),
    "wav": (AUDIO, wav(0.1)),
    "mp3": (AUDIO, id3(9) + xing(10) + mp3(0.36)),
    "mp4": (VIDEO, mp4(3)),
    "pdf": (PDF, pdf(3)),
    "encrypted": (PDF, pdf(2, user_password="", owner_password="x", algorithm="AES-256")),
}  # fmt: skip
CUT = MediaSettings(
    max_pixels=10_000,
    max_image_side=16,
    long_media=LongMedia.PIECES,
    piece_pages=1,
    limits=MediaLimits(audio_seconds=1, video_seconds=90, pages=1),
)


@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(sorted(SOURCES)),
    kept=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4),
    choice=st.sampled_from((SETTINGS, CUT)),
)
def test_damaged_files_raise_nothing_but_faults(
    name: str, kept: float, changes: list[tuple[float, int]], choice: MediaSettings
) -> None:
    kind, data = SOURCES[name]
    damaged = bytearray(data if changes else data[: round(kept * len(data))])
    for place, change in changes:
        damaged[int(place * len(damaged))] ^= change
    data = bytes(damaged)
    with contextlib.suppress(MediaFault):
        for part in prepare_media(data, kind, choice):
            assert part.mime == true_type(part.data)
            assert part.mime in choice.limits.types
            if part.data is not data:
                assert kind is IMAGE or choice is CUT
                assert kind is not IMAGE or opened(part.data).size == (part.width, part.height)


HEARD = dataclasses.replace(SETTINGS, audio_track=True, limits=GEMINI_EMBEDDING_2_VERTEX)


@pytest.mark.parametrize(
    ("sound", "seconds", "heard", "tokens", "of_sound"),
    [
        pytest.param(True, 80.0, True, 80 * 66 + 2000, 2000, id="heard"),
        pytest.param(True, 9.5, True, 10 * 66 + 238, 238, id="short"),
        pytest.param(True, 80.0, False, 80 * 66, 0, id="not heard"),
        pytest.param(False, 120.0, True, 120 * 66, 0, id="silent"),
    ],
)
def test_the_audio_track_of_a_video_has_tokens_of_its_own(
    sound: bool, seconds: float, heard: bool, tokens: int, of_sound: int
) -> None:
    settings = dataclasses.replace(HEARD, audio_track=heard)
    (part,) = prepare_media(movie(seconds, sound=sound), MediaKind.VIDEO, settings)
    assert (part.tokens, part.audio_tokens) == (tokens, of_sound)


def test_the_audio_track_lowers_the_limit_of_a_video() -> None:
    long = movie(100.0, sound=True)
    with pytest.raises(MediaFault) as caught:
        prepare_media(long, MediaKind.VIDEO, HEARD)
    assert caught.value.code is DeadCode.TOO_LONG
    assert str(caught.value) == (
        "the video lasts 100.0 s, but the model accepts at most 80 s of a video with its audio "
        "track. Use --long-media head or pieces"
    )
    assert prepare_media(long, MediaKind.VIDEO, dataclasses.replace(HEARD, audio_track=False))
