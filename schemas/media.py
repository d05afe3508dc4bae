"""Media: what a model accepts, how to check and prepare it, and the prepared bytes."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import ConfigError
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


class MediaCheck(enum.StrEnum):
    """How closely media is looked at before it is sent (`--check-media`)."""

    DECODE = "decode"
    """Images are decoded as a whole; of other media, what `header` reads."""
    HEADER = "header"
    """Headers only: size of an image, length of audio and video, number of pages."""
    OFF = "off"
    """Only the type, from the first bytes.  The service refuses what it does not accept."""


class Transcode(enum.StrEnum):
    """Whether images that the model does not accept are transcoded (`--transcode`)."""

    AUTO = "auto"
    """To PNG if the image has an alpha channel, otherwise to JPEG."""
    OFF = "off"
    """Such a row is a dead letter `unsupported_type`."""


class LongMedia(enum.StrEnum):
    """How to handle audio, video and PDF files beyond the model's limits (`--long-media`)."""

    DEAD_LETTER = "dead-letter"
    HEAD = "head"
    """The first seconds or pages are embedded."""
    PIECES = "pieces"
    """The file is cut, and each piece is a row of the output."""


IMAGE_TOKENS = 258
PAGE_TOKENS = 258
AUDIO_TOKENS_PER_S = 25
FRAME_TOKENS = 66
"""Tokens of media, whatever the size of an image.  Source: measured on the service, 2026."""


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


@dataclasses.dataclass(frozen=True, slots=True)
class MediaSettings:
    """How media is checked and prepared.

    All but `check` and the limits of bytes and pixels change vectors.  Words may be strings:
    `MediaSettings(transcode="off")`.

    Raises:
        ConfigError: a value is not allowed.
    """

    check: MediaCheck = MediaCheck.DECODE
    transcode: Transcode = Transcode.AUTO
    max_image_side: int | None = None
    """The longer side in pixels to which larger images are reduced; None: they stay."""
    max_pixels: int = 50_000_000
    """Width times height of an image.  Transcoding one takes 4 to 16 bytes of memory per pixel,
    most of all WEBP; a JPEG that passes takes almost none."""
    max_bytes: int = 20_000_000
    """Of one media part as it is sent, before base64."""
    max_source_bytes: int = 100_000_000
    """Of one media part as it is read, before it is transcoded or cut."""
    long_media: LongMedia = LongMedia.DEAD_LETTER
    piece_seconds: float | None = None
    """The length of a piece or head; None: the model's limit for the kind."""
    piece_overlap_seconds: float = 0.0
    piece_pages: int | None = None
    """The pages of a piece or head; None: the model's limit."""
    piece_overlap_pages: int = 0
    document_ocr: bool = False
    """Whether the text that the service sees in PDF files is embedded too; on Vertex AI only."""
    audio_track: bool = False
    """Whether the audio track of videos is embedded too; on Vertex AI only."""
    by_uri: bool = False
    """Whether Vertex AI reads files in buckets of Google Cloud Storage itself: their bytes are
    neither read nor checked."""
    vertexai: bool = False
    """Whether Vertex AI makes the vectors, which differ from those of the Developer API.
    `for_service` sets it."""
    limits: MediaLimits = GEMINI_EMBEDDING_2

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            object.__setattr__(self, name, _word(words, name, getattr(self, name)))
        _check_least("--max-image-side", self.max_image_side, 16)
        _check_least("--max-image-pixels", self.max_pixels, 1)
        _check_least("--max-media-bytes", self.max_bytes, 1)
        _check_least("--max-source-bytes", self.max_source_bytes, 1)
        _check_least("--piece-seconds", self.piece_seconds, 1)
        _check_least("--piece-overlap-seconds", self.piece_overlap_seconds, 0)
        _check_least("--piece-pages", self.piece_pages, 1)
        _check_least("--piece-overlap-pages", self.piece_overlap_pages, 0)
        longest = max(self.limits.audio_seconds, self.limits.video_seconds)
        if self.piece_seconds is not None and not self.piece_seconds <= longest:
            raise ConfigError(
                f"--piece-seconds {self.piece_seconds:g}: the model accepts at most "
                f"{self.limits.audio_seconds:g} s of audio and {self.limits.video_seconds:g} s "
                "of video."
            )
        if self.piece_pages is not None and self.piece_pages > self.limits.pages:
            raise ConfigError(
                f"--piece-pages {self.piece_pages}: the model accepts at most "
                f"{self.limits.pages} pages of a PDF file."
            )
        shortest = min(
            self.seconds_of_piece(MediaKind.AUDIO),
            self.seconds_of_piece(MediaKind.VIDEO, has_sound=self.audio_track),
        )
        if not self.piece_overlap_seconds <= shortest / 2:
            raise ConfigError(
                f"--piece-overlap-seconds {self.piece_overlap_seconds:g} is more than half of a "
                f"piece of {shortest:g} s. Use at most {shortest / 2:g}."
            )
        if self.piece_overlap_pages and self.piece_overlap_pages > self.pages_of_piece // 2:
            raise ConfigError(
                f"--piece-overlap-pages {self.piece_overlap_pages} is more than half of a piece "
                f"of {number_of(self.pages_of_piece, 'page')}. "
                f"Use at most {self.pages_of_piece // 2}."
            )

        if self.by_uri:
            for flag, given in (
                ("--max-image-side", self.max_image_side is not None),
                (f"--long-media {self.long_media}", self.long_media is not LongMedia.DEAD_LETTER),
            ):
                if given:
                    raise ConfigError(
                        f"{flag} needs the bytes of a file, which --media-by-uri does not read. "
                        "Remove one of them."
                    )

    def seconds_of_piece(self, kind: MediaKind, *, has_sound: bool = False) -> float:
        """Return the seconds of a piece or head of audio, or of video with or without its track."""
        return min(self.piece_seconds or math.inf, self.limits.seconds(kind, has_sound=has_sound))

    @property
    def pages_of_piece(self) -> int:
        """The pages of a piece or head of a PDF file."""
        return min(self.piece_pages or self.limits.pages, self.limits.pages)


_WORDS: dict[str, type[enum.StrEnum]] = {
    "check": MediaCheck,
    "transcode": Transcode,
    "long_media": LongMedia,
}


def _word(words: type[enum.StrEnum], name: str, value: str) -> enum.StrEnum:
    try:
        return words(value)
    except ValueError:
        allowed = ", ".join(words)
        raise ConfigError(f"unknown {name} {value!r}. Allowed are {allowed}.") from None


def _check_least(flag: str, value: float | None, least: int) -> None:
    if value is not None and not value >= least:
        raise ConfigError(f"{flag} {value:g} is too small. Use at least {least}.")


def for_service(settings: MediaSettings, *, vertexai: bool) -> MediaSettings:
    """Return the settings for a service, with its limits.

    Raises:
        ConfigError: the service does not have a switch.
    """
    if vertexai:
        return dataclasses.replace(settings, vertexai=True, limits=GEMINI_EMBEDDING_2_VERTEX)
    for flag, given in (
        ("--document-ocr", settings.document_ocr),
        ("--audio-track", settings.audio_track),
        ("--media-by-uri", settings.by_uri),
    ):
        if given:
            raise ConfigError(
                f"{flag} works on Vertex AI only. Add --vertexai, or remove {flag}: the Gemini API "
                "of Google AI Studio has no such switch."
            )
    return dataclasses.replace(settings, vertexai=False, limits=GEMINI_EMBEDDING_2)


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
    """Those among `tokens` that are of the audio track of a video."""
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
