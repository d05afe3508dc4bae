"""Parts of a content that are media: read from a request, checked, and turned into vectors."""

from __future__ import annotations

import binascii
import dataclasses
import hashlib
import math

from bulkembed.emulator import media_vectors
from bulkembed.emulator.api_errors import ApiError, bad_field, invalid
from bulkembed.emulator.image_descriptors import UnreadableImage, describe
from bulkembed.emulator.media_lengths import (
    UnreadableMedia,
    read_movie,
    read_pdf,
    sound_seconds,
    true_type,
)
from bulkembed.emulator.media_rules import MediaRules, Modality
from bulkembed.emulator.word_vectors import Doubles, words

IMAGE_TOKENS = 258
PAGE_TOKENS = 258
SECOND_TOKENS = 25
FRAME_TOKENS = 66
"""Tokens of media. Source: measured on the service, 2026."""
DEVELOPER_FRAMES = 32
VERTEX_FRAMES = 120
"""The frames of a video that count, 1 per second at most."""
_TYPES = {
    "image/png": ("image/png", Modality.IMAGE),
    "image/jpeg": ("image/jpeg", Modality.IMAGE),
    "audio/mp3": ("audio/mpeg", Modality.AUDIO),
    "audio/mpeg": ("audio/mpeg", Modality.AUDIO),
    "audio/wav": ("audio/wav", Modality.AUDIO),
    "video/mp4": ("video/mp4", Modality.VIDEO),
    "video/mpeg": ("video/mp4", Modality.VIDEO),
    "video/mov": ("video/quicktime", Modality.VIDEO),
    "video/quicktime": ("video/quicktime", Modality.VIDEO),
    "application/pdf": ("application/pdf", Modality.DOCUMENT),
}
"""The MIME types that the service takes: the true type that each stands for, and its modality."""
_SLACK = 0.1
"""Seconds over a limit that are accepted: an encoder adds silence to a sound of that length."""
_NOUNS = {
    Modality.IMAGE: "image",
    Modality.AUDIO: "audio",
    Modality.VIDEO: "video",
    Modality.DOCUMENT: "document",
}


@dataclasses.dataclass(frozen=True, slots=True)
class MediaPart:
    """An image, an audio or video file, or a PDF file."""

    modality: Modality
    tokens: tuple[tuple[Modality, int], ...]
    """Tokens by modality: a video has audio too if its track is extracted."""
    vector: Doubles = dataclasses.field(repr=False, compare=False)
    """Of length 1, in the space of the words."""
    digest: bytes
    """A hash of the bytes and of all else that the vector depends on."""


@dataclasses.dataclass(frozen=True, slots=True)
class MediaSwitches:
    """How a request wants its media to be read."""

    vertex: bool
    document_ocr: bool = False
    audio_track: bool = False


_KNOWN: dict[tuple[bytes, MediaRules], MediaPart] = {}
"""Parts that were read, by digest: a file is decoded once, though it comes in many calls."""
_MOST_KNOWN = 5000
"""Each needs about 3 kB."""


def decode_base64(text: str, where: str) -> bytes:
    """Return the bytes of a base64 text: either alphabet, with or without padding.

    Raises:
        ApiError: it is no base64.
    """
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
    except ValueError as error:  # Also of text that is not ASCII.
        kind = f'(TYPE_BYTES), Base64 decoding failed for "{text[:40]}"'
        raise bad_field(where, f"Invalid value at '{where}' {kind}") from error


def read_media(data: bytes, mime: str, switches: MediaSwitches, rules: MediaRules) -> MediaPart:
    """Return the part of a file that is declared to have a MIME type.

    Raises:
        ApiError: the service would refuse it.
    """
    declared = mime.partition(";")[0].strip().lower()
    if declared not in _TYPES:
        raise invalid(f"Unsupported MIME type: {mime}")
    expected, modality = _TYPES[declared]
    if rules.refuse_wrong_types and true_type(data) != expected:
        raise _unreadable(modality)
    facts = f"{modality} {switches}" if modality is not Modality.IMAGE else modality
    digest = hashlib.sha256(facts.encode() + b"\0" + data).digest()
    known = _KNOWN.get((digest, rules))
    if known is None:
        tokens, vector = _READERS[modality](data, switches, rules)
        known = MediaPart(modality, tokens, vector, digest)
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[digest, rules] = known
    return known


def check_counts(parts: list[MediaPart], rules: MediaRules) -> None:
    """Raise ApiError if a content has too many files of a modality."""
    for modality, noun in _NOUNS.items():
        count = sum(part.modality is modality for part in parts)
        limit = rules.images if modality is Modality.IMAGE else rules.files
        if count > limit:
            raise _over_limit(f"{limit} {noun} parts", count)


def _over_limit(limit: str, found: float) -> ApiError:
    return invalid(
        f"Unable to submit request because the model supports at most {limit} per input instance, "
        f"but {found:g} were provided."
    )


def _unreadable(modality: Modality) -> ApiError:
    return invalid(
        f"Unable to process input {_NOUNS[modality]}. Please retry or report in "
        "https://developers.generativeai.google/guide/troubleshooting"
    )


_Read = tuple[tuple[tuple[Modality, int], ...], Doubles]


def _read_image(data: bytes, switches: MediaSwitches, rules: MediaRules) -> _Read:
    try:
        found = describe(data)
    except UnreadableImage as error:
        raise _unreadable(Modality.IMAGE) from error
    except ImportError:
        raise _needs("Pillow") from None
    if found.is_odd and rules.refuse_odd_images:
        raise _unreadable(Modality.IMAGE)
    return ((Modality.IMAGE, IMAGE_TOKENS),), media_vectors.image_vector(found)


def _read_audio(data: bytes, switches: MediaSwitches, rules: MediaRules) -> _Read:
    try:
        seconds = sound_seconds(data)
    except UnreadableMedia as error:
        raise _unreadable(Modality.AUDIO) from error
    seconds = _checked(seconds, rules.audio_seconds, "seconds of audio", rules)
    vector = media_vectors.file_vector(data, "sound", seconds=seconds)
    return ((Modality.AUDIO, _audio_tokens(seconds)),), vector


def _read_video(data: bytes, switches: MediaSwitches, rules: MediaRules) -> _Read:
    try:
        movie = read_movie(data)
    except UnreadableMedia as error:
        raise _unreadable(Modality.VIDEO) from error
    heard = switches.audio_track and movie.has_sound
    limit = rules.track_seconds if heard else rules.video_seconds
    seconds = _checked(movie.seconds, limit, "seconds of video", rules)
    frames = min(VERTEX_FRAMES if switches.vertex else DEVELOPER_FRAMES, math.ceil(seconds))
    tokens: tuple[tuple[Modality, int], ...] = ((Modality.VIDEO, FRAME_TOKENS * frames),)
    if heard:
        tokens += ((Modality.AUDIO, _audio_tokens(seconds)),)
    vector = media_vectors.file_vector(data, "video", service=switches.vertex, heard=heard)
    return tokens, vector


def _read_document(data: bytes, switches: MediaSwitches, rules: MediaRules) -> _Read:
    try:
        pages, texts = read_pdf(data, rules.pages)
    except UnreadableMedia as error:
        raise _unreadable(Modality.DOCUMENT) from error
    except ImportError:
        raise _needs("pypdf") from None
    if not pages:
        raise invalid("The document has no pages.")
    pages = int(_checked(pages, rules.pages, "document pages", rules))
    tokens: tuple[tuple[Modality, int], ...] = ((Modality.DOCUMENT, PAGE_TOKENS * pages),)
    text = "\n".join(texts)
    if switches.document_ocr and text.strip():
        tokens += ((Modality.TEXT, words().count([text])),)
    return tokens, media_vectors.document_vector(data, text, ocr=switches.document_ocr)


_READERS = {
    Modality.IMAGE: _read_image,
    Modality.AUDIO: _read_audio,
    Modality.VIDEO: _read_video,
    Modality.DOCUMENT: _read_document,
}


def _checked(found: float, limit: float, what: str, rules: MediaRules) -> float:
    if found <= limit + _SLACK or rules.cut_long:
        return min(found, limit)
    raise _over_limit(f"{limit:g} {what}", found)


def _audio_tokens(seconds: float) -> int:
    return math.ceil(SECOND_TOKENS * seconds)


def _needs(package: str) -> ApiError:
    return ApiError(
        501, f"The emulator needs {package} for this. Run pip install 'bulkembed[media]'."
    )
