"""The settings of media: what a content may have, and what the documentation leaves open."""

from __future__ import annotations

import dataclasses
import enum

from bulkembed.schemas.errors import ConfigError


class Modality(enum.StrEnum):
    """What tokens stand for, as the service names it.

    Source: google-genai, `types.MediaModality`, 2026-11.
    """

    TEXT = "TEXT"
    IMAGE = "IMAGE"
    AUDIO = "AUDIO"
    VIDEO = "VIDEO"
    DOCUMENT = "DOCUMENT"
    """A PDF file."""


class TokenDetails(enum.StrEnum):
    """Under which name an answer counts its tokens by modality.

    The service was seen to send `promptTokenDetails`. Google's SDK reads `promptTokensDetails` on
    Vertex AI, and its tests expect it there.
    """

    BY_SERVICE = "by-service"
    """`promptTokenDetails` on the Developer API, `promptTokensDetails` on Vertex AI."""
    TOKEN = "promptTokenDetails"
    TOKENS = "promptTokensDetails"
    BOTH = "both"
    NONE = "none"

    def names(self, *, vertex: bool) -> tuple[str, ...]:
        """Return the names of the field on a service."""
        if self is TokenDetails.NONE:
            return ()
        if self is TokenDetails.BOTH:
            return (self.TOKEN.value, self.TOKENS.value)
        if self is TokenDetails.BY_SERVICE:
            return ((self.TOKENS if vertex else self.TOKEN).value,)
        return (self.value,)


class VertexBatch(enum.StrEnum):
    """What `batchEmbedContents` does on Vertex AI, where it was seen to answer 404."""

    SERVE = "serve"
    MISSING = "missing"
    """404 in the words for an unknown method."""
    PAGE = "page"
    """404 with an HTML page."""


@dataclasses.dataclass(frozen=True, slots=True)
class MediaRules:
    """The limits of media, and the choices where the documentation is silent.

    Limits are for each content, those of `body_bytes` and `call_images` for each request. Source
    of the limits: ai.google.dev/gemini-api/docs/embeddings and the pages of gemini-embedding-2 on
    docs.cloud.google.com, 2026-11.
    """

    body_bytes: int = 100 << 20
    body_status: int = 400
    """The status for a body over a limit: 400, or 413 with an HTML page."""
    call_images: int = 0
    """Images of all contents of a request; 0: no limit."""
    images: int = 6
    files: int = 1
    """PDF files, and as many audio and video files."""
    audio_seconds: float = 180.0
    video_seconds: float = 120.0
    track_seconds: float = 80.0
    """Of a video whose audio track is embedded."""
    pages: int = 6
    cut_long: bool = False
    """Media over its length is cut, not refused."""
    refuse_wrong_types: bool = False
    """A MIME type that is not that of the bytes is refused."""
    refuse_odd_images: bool = False
    """Images with CMYK, 16 bits or a palette, and animated ones, are refused."""
    developer_gs: bool = True
    """The Developer API reads `gs://` URIs, as in the tests of Google's SDK."""

    def __post_init__(self) -> None:
        if self.body_status not in (400, 413):
            raise ConfigError(f"--media-body-status {self.body_status}: use 400 or 413")
        if self.call_images < 0:
            raise ConfigError(f"--media-call-images {self.call_images}: use 0 or more")
        for name in (
            "body_bytes", "images", "files", "audio_seconds", "video_seconds", "track_seconds",
            "pages",
        ):  # fmt: skip
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"--media-{name.replace('_', '-')} {value:g}: use 1 or more")
