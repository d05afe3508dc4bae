"""How media is checked, transcoded and cut before it is sent."""

from __future__ import annotations

import dataclasses
import enum
import math

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.media import (
    GEMINI_EMBEDDING_2,
    GEMINI_EMBEDDING_2_VERTEX,
    MediaKind,
    MediaLimits,
)
from bulkembed.schemas.messages import number_of


class MediaCheck(enum.StrEnum):
    """How closely media is looked at before it is sent (`--check-media`)."""

    DECODE = "decode"
    """Images are decoded as a whole; of other media, what `header` reads."""
    HEADER = "header"
    """Headers only: size of an image, length of audio and video, number of pages."""
    OFF = "off"
    """Only the type, from the first bytes. The service refuses what it does not accept."""


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


@dataclasses.dataclass(frozen=True, slots=True)
class MediaSettings:
    """How media is checked and prepared.

    All but `check` and the limits of bytes and pixels change vectors. Words may be strings:
    `MediaSettings(transcode="off")`.

    Raises:
        ConfigError: a value is not allowed.
    """

    check: MediaCheck = MediaCheck.DECODE
    transcode: Transcode = Transcode.AUTO
    max_image_side: int | None = None
    """The longer side in pixels to which larger images are reduced; None: they stay."""
    max_pixels: int = 50_000_000
    """Width times height of an image. Transcoding one takes 4 to 16 bytes of memory per pixel,
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
        self._check_pieces()
        self._check_by_uri()

    def _check_pieces(self) -> None:
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

    def _check_by_uri(self) -> None:
        if not self.by_uri:
            return
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
