"""Find out what a media file is: type, size, length, pages."""

from __future__ import annotations

import dataclasses

from bulkembed.schemas.media import MediaKind


@dataclasses.dataclass(frozen=True, slots=True)
class MediaFacts:
    """What is known of a media file; None for what its kind does not have or the file hides."""

    kind: MediaKind
    mime: str
    """The true type."""
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    """The pixels of an image, as Pillow names them: `RGB`, `CMYK`, `P`."""
    seconds: float | None = None
    pages: int | None = None
