"""The strict emulator takes all that passes the checks: it is a second opinion on each rule."""

from __future__ import annotations

import dataclasses
import io
import zlib

import pytest
from PIL import Image
from support.media_samples import (
    id3,
    mp3,
    mp4,
    pdf,
    picture,
    png_chunk,
    png_of,
    saved,
    wav,
    xing,
)
from support.recordings import movie

from bulkembed.emulator.api_errors import ApiError
from bulkembed.emulator.media_parts import MediaSwitches, read_media
from bulkembed.emulator.media_rules import MediaRules
from bulkembed.schemas.media import MediaKind
from bulkembed.schemas.media_settings import LongMedia, MediaSettings
from bulkembed.transforms.media.prepare_media import prepare_media

IMAGE, AUDIO, VIDEO, PDF = MediaKind
STRICT = MediaRules(refuse_wrong_types=True, refuse_odd_images=True)
PIECES = MediaSettings(long_media=LongMedia.PIECES, max_bytes=10**9)
DEEP = png_of(2, 2, png_chunk(b"IDAT", zlib.compress(b"\0\1\2\3\4" * 2)), depth=16)
TURNED = Image.Exif()
TURNED[0x0112] = 6
SECOND = [picture().rotate(90)]

FILES = [
    ("jpeg", IMAGE, saved(picture(), "JPEG"), "image/jpeg"),
    ("cmyk", IMAGE, saved(picture("CMYK"), "JPEG"), "image/jpg"),
    ("turned", IMAGE, saved(picture(), "JPEG", exif=TURNED), "image/jpeg"),
    ("png", IMAGE, saved(picture("RGBA"), "PNG"), "image/png"),
    ("palette", IMAGE, saved(picture("P"), "PNG"), "image/png"),
    ("16-bit", IMAGE, DEEP, "image/png"),
    ("gif", IMAGE, saved(picture(), "GIF", save_all=True, append_images=SECOND), "image/gif"),
    ("webp", IMAGE, saved(picture(), "WEBP", save_all=True, append_images=SECOND), "image/webp"),
    ("bmp", IMAGE, saved(picture(), "BMP"), "image/bmp"),
    ("tiff", IMAGE, saved(picture(), "TIFF"), "image/tiff"),
    ("avif", IMAGE, saved(picture(), "AVIF"), "image/avif"),
    ("wav", AUDIO, wav(180), "audio/wav"),
    ("wav-pieces", AUDIO, wav(400), "audio/wav"),
    ("mp3", AUDIO, id3(30) + mp3(179), "audio/mpeg"),
    ("mp3-pieces", AUDIO, id3(30) + xing(11_000) + mp3(396), "audio/mpeg"),
    ("mp4", VIDEO, mp4(120), "video/mp4"),
    ("mov", VIDEO, movie(9, sound=True, brand=b"qt  "), "video/quicktime"),
    ("pdf", PDF, pdf(6), "application/pdf"),
    ("pdf-pieces", PDF, pdf(13), "application/pdf"),
]


@pytest.mark.parametrize(
    ("kind", "data"), [pytest.param(kind, data, id=name) for name, kind, data, _ in FILES]
)
@pytest.mark.parametrize("vertex", [False, True], ids=["developer", "vertex"])
def test_the_emulator_takes_what_passes_and_counts_the_same(
    kind: MediaKind, data: bytes, vertex: bool
) -> None:
    limits = dataclasses.replace(PIECES.limits, frames=120 if vertex else 32)
    parts = prepare_media(data, kind, dataclasses.replace(PIECES, limits=limits))
    for part in parts:
        read = read_media(part.data, part.mime, MediaSwitches(vertex=vertex), STRICT)
        counted = sum(tokens for _, tokens in read.tokens)
        assert counted == pytest.approx(part.tokens, abs=2)  # The first frame of an MP3 file.


REFUSED = [row for row in FILES if row[0] in (
    "cmyk", "palette", "16-bit", "gif", "webp", "bmp", "tiff", "avif", "wav-pieces", "mp3-pieces",
    "pdf-pieces",
)]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "mime"), [pytest.param(data, mime, id=name) for name, _, data, mime in REFUSED]
)
def test_the_emulator_refuses_what_is_changed(data: bytes, mime: str) -> None:
    with pytest.raises(ApiError):
        read_media(data, mime, MediaSwitches(vertex=False), STRICT)


def test_a_turned_image_that_is_encoded_again_looks_the_same() -> None:
    data = saved(picture(), "WEBP", exif=TURNED)
    (part,) = prepare_media(data, IMAGE, PIECES)
    before, after = (
        read_media(each, "image/jpeg", MediaSwitches(vertex=False), MediaRules()).vector
        for each in (saved(picture().transpose(Image.Transpose.ROTATE_270), "JPEG"), part.data)
    )
    assert float(before @ after) > 0.99
    assert Image.open(io.BytesIO(part.data)).size == (30, 40)
