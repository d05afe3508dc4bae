"""The true type of media by its first bytes, whatever its name or column says."""

from __future__ import annotations

from bulkembed.schemas.media import MediaKind

UNKNOWN = "application/octet-stream"

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"\0\0\1\0", "image/vnd.microsoft.icon"),
    (b"\0\0\0\x0cjP  ", "image/jp2"),
    (b"\xff\x0a", "image/jxl"),
    (b"\0\0\0\x0cJXL ", "image/jxl"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "application/ogg"),
    (b"\x1aE\xdf\xa3", "video/x-matroska"),
    (b"FLV\1", "video/x-flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-wmv"),
    (b"\0\0\1\xba", "video/mpeg"),
    (b"\0\0\1\xb3", "video/mpeg"),
    (b"PK\3\4", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"version https://git-lfs.", "text/x-git-lfs-pointer"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "image/heic"),
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), "audio/mp4"),
    **dict.fromkeys((b"3gp4", b"3gp5", b"3gp6", b"3gp7"), "video/3gpp"),
    b"crx ": "image/x-canon-cr3",
    b"qt  ": "video/quicktime",
}
_HEIF = (b"mif1", b"msf1")
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"pnot")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_TEXT_HEAD = 4096
_PDF_HEAD = 1024
"""Readers of PDF accept `%PDF-` anywhere in the first 1,024 bytes."""

_NAMES = {
    UNKNOWN: "a file of unknown type",
    "application/gzip": "a gzip file",
    "application/json": "a JSON document",
    "application/ogg": "an Ogg file",
    "application/pdf": "a PDF file",
    "application/xml": "an XML document",
    "application/zip": "a ZIP archive",
    "audio/mpeg": "MP3 audio",
    "audio/mp4": "M4A audio",
    "audio/wav": "WAV audio",
    "image/heic": "a HEIC image",
    "image/svg+xml": "an SVG drawing",
    "image/vnd.adobe.photoshop": "a Photoshop image",
    "image/vnd.microsoft.icon": "an icon file",
    "image/x-canon-cr3": "a Canon raw image",
    "text/html": "an HTML page",
    "text/plain": "text",
    "text/x-git-lfs-pointer": "a Git LFS pointer (run `git lfs pull`)",
    "video/mp4": "an MP4 video",
    "video/quicktime": "a MOV video",
    "video/x-matroska": "a WebM or Matroska video",
}


def true_type(data: bytes) -> str:
    """Return the MIME type of a file by its first bytes; UNKNOWN if nothing fits."""
    for start, mime in _STARTS:
        if data.startswith(start):
            return mime
    return (
        _chunk_type(data)
        or _box_type(data)
        or _mpeg_type(data)
        or ("application/pdf" if b"%PDF-" in data[:_PDF_HEAD] else None)
        or _text_type(data)
        or UNKNOWN
    )


def kind_of(mime: str) -> MediaKind | None:
    """Return the kind of media of a MIME type; None if it is no media."""
    if mime == "application/pdf":
        return MediaKind.PDF
    family = mime.partition("/")[0]
    known = family in ("image", "audio", "video") and mime != "image/svg+xml"
    return MediaKind(family) if known else None


def name_of(mime: str) -> str:
    """Return a type in words, with its article: `an HTML page`, `a WEBP image`."""
    if mime in _NAMES:
        return _NAMES[mime]
    family, _, name = mime.partition("/")
    short = name.removeprefix("x-").removeprefix("ms-").upper()
    if family == "audio":
        return f"{short} audio"
    return f"{'an' if short[0] in 'AEFHILMNORSX' else 'a'} {short} {family}"


def is_mp3_frame(head: bytes) -> bool:
    """Return whether 4 bytes are the header of an MPEG audio frame of layer III."""
    return (
        len(head) >= 4
        and head[0] == 0xFF
        and head[1] & 0xE6 == 0xE2  # sync, layer III
        and head[1] & 0x18 != 0x08  # a version that exists
        and head[2] & 0xF0 not in (0x00, 0xF0)  # a bit rate
        and head[2] & 0x0C != 0x0C  # a sample rate
    )


def _chunk_type(data: bytes) -> str | None:
    if data[:4] in (b"RIFF", b"RF64", b"BW64"):
        return _RIFF.get(data[8:12])
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return "audio/aiff"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    return None


def _box_type(data: bytes) -> str | None:
    """Return the type of a file of ISO boxes: MP4, MOV, HEIC, AVIF."""
    if data[4:8] in _QUICKTIME_ATOMS:
        return "video/quicktime"
    if data[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(data[:4], "big"), 512)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, size - 3, 4))]
    if brands[0] in _HEIF:
        return "image/avif" if b"avif" in brands else "image/heic"
    return _BRANDS.get(brands[0], "video/mp4")


def after_id3(data: bytes) -> int:
    """Return where the ID3v2 tags at the beginning of a file end."""
    at = 0
    while data[at : at + 3] == b"ID3" and at + 10 <= len(data):
        size = 0
        for byte in data[at + 6 : at + 10]:
            size = size << 7 | byte & 0x7F
        at += 10 + size + (10 if data[at + 5] & 0x10 else 0)
    return at


def _mpeg_type(data: bytes) -> str | None:
    """Return the type of audio of MPEG, which may follow a tag, as other audio may."""
    at = after_id3(data)
    head = data[at : at + 4]
    if head == b"fLaC":
        return "audio/flac"
    if head[:1] == b"\xff" and head[1:2] in (b"\xf0", b"\xf1", b"\xf8", b"\xf9"):
        return "audio/aac"
    if head[:1] == b"\xff" and head[1:2] in (b"\xf4", b"\xf5", b"\xfc", b"\xfd"):
        return "audio/mp2"
    return "audio/mpeg" if at or is_mp3_frame(head) else None


def _text_type(data: bytes) -> str | None:
    head = data[:_TEXT_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head or any(byte < 9 or 13 < byte < 32 for byte in head.replace(b"\x1b", b"")):
        return None
    if b"<svg" in head and head.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")):
        return "image/svg+xml"
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in head:
        return "text/html"
    if head.startswith(b"<?xml"):
        return "application/xml"
    if head.startswith((b"{", b"[")):
        return "application/json"
    return "text/plain"
