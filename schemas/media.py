"""Media: its kinds and tokens, what a model accepts, what is known of a file, and what is sent."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.messages import number_of


class MediaKind(enum.StrEnum):
    """The kind of a media part."""

    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    PDF = "pdf"

    @property
    def noun(self) -> str:
        """The kind in a sentence, with its article."""
        return {"image": "an image", "pdf": "a PDF file"}.get(self, str(self))


IMAGE_TOKENS = 258
PAGE_TOKENS = 258
AUDIO_TOKENS_PER_S = 25
FRAME_TOKENS = 66
"""Tokens of media, whatever the size of an image. Source: measured on the service, 2026."""


@dataclasses.dataclass(frozen=True, slots=True)
class MediaTokens:
    """Tokens of media, by what they are billed as; they can be added."""

    image: int = 0
    """Of images, and of the pages of PDF files."""
    audio: int = 0
    video: int = 0

    @classmethod
    def of(cls, kind: MediaKind, tokens: int) -> MediaTokens:
        """Return the tokens of one medium."""
        match kind:
            case MediaKind.AUDIO:
                return cls(audio=tokens)
            case MediaKind.VIDEO:
                return cls(video=tokens)
        return cls(image=tokens)

    def __add__(self, other: MediaTokens) -> MediaTokens:
        return MediaTokens(
            self.image + other.image, self.audio + other.audio, self.video + other.video
        )


NO_MEDIA = MediaTokens()


@dataclasses.dataclass(frozen=True, slots=True)
class MediaFactors:
    """What a token of media costs, as a multiple of a token of text."""

    image: float = 1.0
    audio: float = 1.0
    video: float = 1.0

    def surcharge(self, media: MediaTokens) -> int:
        """Return how many tokens of text cost what media costs above its own count."""
        if media == NO_MEDIA:
            return 0
        extra = (
            media.image * (self.image - 1)
            + media.audio * (self.audio - 1)
            + media.video * (self.video - 1)
        )
        return math.ceil(extra - 1e-6)


SAME_PRICE = MediaFactors()
"""Of a model that takes no media, or whose prices are not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class MediaLimits:
    """What a model accepts in one content.

    Source: ai.google.dev/gemini-api/docs/embeddings and docs.cloud.google.com, 2026-11.
    """

    images: int = 6
    audio_seconds: float = 180.0
    video_seconds: float = 120.0
    pages: int = 6
    track_seconds: float = 80.0
    """The seconds of a video whose audio track is embedded too; on Vertex AI only."""
    frames: int = 32
    """The frames of a video that the service looks at, 1 per second at most; 120 on Vertex AI."""
    types: tuple[str, ...] = (
        "image/jpeg",
        "image/png",
        "audio/mpeg",
        "audio/wav",
        "video/mp4",
        "video/quicktime",
        "application/pdf",
    )

    def seconds(self, kind: MediaKind, *, has_sound: bool = False) -> float:
        """Return the maximum seconds of audio, or of video with or without its audio track."""
        if kind is MediaKind.AUDIO:
            return self.audio_seconds
        return self.track_seconds if has_sound else self.video_seconds


GEMINI_EMBEDDING_2 = MediaLimits()
"""The limits of gemini-embedding-2 on the Developer API."""
GEMINI_EMBEDDING_2_VERTEX = MediaLimits(frames=120)
"""The limits of gemini-embedding-2 on Vertex AI."""


def media_tokens(
    kind: MediaKind,
    *,
    seconds: float | None = None,
    pages: int | None = None,
    limits: MediaLimits = GEMINI_EMBEDDING_2,
) -> int:
    """Return the tokens of one media part; 0 for a length that is not known."""
    match kind:
        case MediaKind.IMAGE:
            return IMAGE_TOKENS
        case MediaKind.PDF:
            return PAGE_TOKENS * (pages or 0)
        case MediaKind.AUDIO:
            return audio_tokens(seconds)
    return FRAME_TOKENS * min(limits.frames, math.ceil(seconds or 0.0))


def audio_tokens(seconds: float | None) -> int:
    """Return the tokens of audio, or of the audio track of a video; 0 for an unknown length."""
    return math.ceil(AUDIO_TOKENS_PER_S * (seconds or 0.0))


class MediaFault(ValueError):
    """Media that makes its row a dead letter: the code, and what was found, in words.

    The message names neither column nor row; who knows them puts them before it.
    """

    def __init__(self, code: DeadCode, what: str) -> None:
        super().__init__(code, what)
        self.code = code
        self.what = what

    def __str__(self) -> str:
        return self.what


@dataclasses.dataclass(frozen=True, slots=True)
class MediaFacts:
    """What is known of a media file; None for what its kind does not have."""

    kind: MediaKind
    mime: str
    """The true type."""
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    """The pixels of an image, as Pillow names them: `RGB`, `CMYK`, `P`."""
    is_animated: bool = False
    """Whether a PNG image has several frames."""
    seconds: float | None = None
    pages: int | None = None
    has_sound: bool = False
    """Whether a video has an audio track; looked at only if the track is to be embedded."""


@dataclasses.dataclass(frozen=True, slots=True)
class PreparedMedia:
    """One media part as it is sent."""

    kind: MediaKind
    mime: str
    """The true type of `data`, one that the model accepts."""
    data: bytes = dataclasses.field(repr=False)
    tokens: int
    """As the service counts them; 0 if the length is not known."""
    audio_tokens: int = 0
    """How many of `tokens` are of the audio track of a video."""
    seconds: float | None = None
    """The length of audio and video; None if it is not known."""
    pages: int | None = None
    width: int | None = None
    height: int | None = None
    """Of an image in pixels, as it is sent."""
    start: float | None = None
    end: float | None = None
    """Where a piece or head lies in its file, in seconds or pages from 0, the end exclusive;
    None for a whole file."""


def media_line(media: Sequence[Mapping[str, Any]]) -> str:
    """Return the values of a row's output column `media` on one line, for people.

    Such as `image 12.4 kB photos/1.jpg, pdf 1.2 MB`.
    """
    return ", ".join(
        " ".join(filter(None, (one["kind"], _size(one["bytes"]), one["uri"]))) for one in media
    )


def _size(size_bytes: int) -> str:
    for unit, factor in (("MB", 1_000_000), ("kB", 1000)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return number_of(size_bytes, "byte")
