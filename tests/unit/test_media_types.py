"""The type of media is found by its first bytes."""

from __future__ import annotations

import pytest
from support.media_samples import FTYP, FTYP_MOV, box, id3, mp3, pdf, picture, saved, wav

from bulkembed.schemas.media import MediaKind
from bulkembed.transforms.media.media_types import kind_of, name_of, true_type

MADE = {
    "image/jpeg": saved(picture(), "JPEG"),
    "image/png": saved(picture(), "PNG"),
    "image/gif": saved(picture(), "GIF"),
    "image/webp": saved(picture(), "WEBP"),
    "image/bmp": saved(picture(), "BMP"),
    "image/tiff": saved(picture(), "TIFF"),
    "image/avif": saved(picture(), "AVIF"),
    "image/jp2": saved(picture(), "JPEG2000"),
    "image/vnd.microsoft.icon": saved(picture(), "ICO"),
    "audio/wav": wav(0.1),
    "audio/mpeg": mp3(0.1),
    "application/pdf": pdf(1),
}


@pytest.mark.parametrize("mime", MADE)
def test_the_type_of_a_whole_file_is_found(mime: str) -> None:
    assert true_type(MADE[mime]) == mime


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        pytest.param(id3(20) + mp3(0.1), "audio/mpeg", id="mp3-after-a-tag"),
        pytest.param(b"RF64" + wav(0.1)[4:], "audio/wav", id="rf64"),
        pytest.param(b"\r\n" + pdf(1), "application/pdf", id="pdf-after-a-line"),
        pytest.param(b"MM\0*", "image/tiff", id="tiff-big-endian"),
        pytest.param(FTYP, "video/mp4", id="mp4"),
        pytest.param(FTYP_MOV, "video/quicktime", id="mov"),
        pytest.param(box(b"moov"), "video/quicktime", id="mov-without-ftyp"),
        pytest.param(box(b"ftyp", b"M4A \0\0\0\0"), "audio/mp4", id="m4a"),
        pytest.param(box(b"ftyp", b"heic\0\0\0\0"), "image/heic", id="heic"),
        pytest.param(box(b"ftyp", b"mif1\0\0\0\0avif"), "image/avif", id="mif1-avif"),
        pytest.param(box(b"ftyp", b"mif1\0\0\0\0heic"), "image/heic", id="mif1-heic"),
        pytest.param(b"\xff\xf1\x50\x80", "audio/aac", id="aac"),
        pytest.param(b"fLaC", "audio/flac", id="flac"),
        pytest.param(id3(20) + b"fLaC", "audio/flac", id="flac-after-a-tag"),
        pytest.param(id3(20) + b"\xff\xfd\x90\x04", "audio/mp2", id="mp2-after-a-tag"),
        pytest.param(b"\xff\xfd\x90\x04", "audio/mp2", id="mp2"),
        pytest.param(b"\x1aE\xdf\xa3", "video/x-matroska", id="webm"),
        pytest.param(b"FORM\0\0\0\0AIFF", "audio/aiff", id="aiff"),
        pytest.param(b"PK\3\4", "application/zip", id="zip"),
        pytest.param(b"<!DOCTYPE html><p>", "text/html", id="html"),
        pytest.param(b"\xef\xbb\xbf\n <HTML>", "text/html", id="html-after-a-byte-order-mark"),
        pytest.param(b'<?xml version="1.0"?><html>', "text/html", id="xhtml"),
        pytest.param(b"<svg xmlns=''/>", "image/svg+xml", id="svg"),
        pytest.param(b"<?xml version='1.0'?>\n<svg/>", "image/svg+xml", id="svg-after-xml"),
        pytest.param(b"<?xml version='1.0'?><Error/>", "application/xml", id="xml"),
        pytest.param(b'{"error": 404}', "application/json", id="json"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "text/x-git-lfs-pointer",
                     id="git-lfs"),
        pytest.param("Größe".encode(), "text/plain", id="text"),
        pytest.param(b"\x01\x02\x03", "application/octet-stream", id="unknown"),
        pytest.param(b"", "application/octet-stream", id="empty"),
        pytest.param(b"BM is text", "text/plain", id="text-that-begins-like-bmp"),
    ],
)  # fmt: skip
def test_the_type_is_found_by_the_first_bytes(data: bytes, mime: str) -> None:
    assert true_type(data) == mime


@pytest.mark.parametrize(
    ("mime", "kind"),
    [
        ("image/webp", MediaKind.IMAGE),
        ("audio/flac", MediaKind.AUDIO),
        ("video/x-matroska", MediaKind.VIDEO),
        ("application/pdf", MediaKind.PDF),
        ("image/svg+xml", None),
        ("text/html", None),
    ],
)
def test_each_type_has_a_kind_or_is_no_media(mime: str, kind: MediaKind | None) -> None:
    assert kind_of(mime) is kind


@pytest.mark.parametrize(
    ("mime", "name"),
    [
        ("image/webp", "a WEBP image"),
        ("image/avif", "an AVIF image"),
        ("audio/flac", "FLAC audio"),
        ("video/x-ms-wmv", "a WMV video"),
        ("text/html", "an HTML page"),
    ],
)
def test_a_type_has_a_name_with_its_article(mime: str, name: str) -> None:
    assert name_of(mime) == name
