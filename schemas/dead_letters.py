"""Dead letters: rows that failed for good or were skipped, with the reason."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any


class DeadCode(enum.StrEnum):
    """The reason; column `code` of the dead letters."""

    BLANK_TEXT = "blank_text"
    """The text is null, empty or white space; counted as skipped, not as failed."""
    MISSING_ID = "missing_id"
    """The id is null or missing."""
    BAD_ID = "bad_id"
    """The id is neither an integer nor a string."""
    BAD_JSON = "bad_json"
    """The line is not a JSON object, or not UTF-8."""
    BAD_TEXT = "bad_text"
    """The text or title is not a string, or not valid UTF-8 (lone surrogates)."""
    BAD_COLUMN = "bad_column"
    """Written by earlier versions: a kept column had another type than in other rows."""
    TOO_LONG = "too_long"
    """The text has more tokens than the model accepts, as the service says; or the audio or video
    of the row lasts longer than the model accepts."""
    REJECTED = "refused"
    """The service rejects this row; `message` has its words."""
    NO_MEAN = "no_mean"
    """The vectors of the text's passages cancel each other out."""
    SERVICE_ERROR = "service_error"
    """The service keeps failing on this row while others pass."""
    UNSUPPORTED_TYPE = "unsupported_type"
    """The media is of a type that is neither accepted nor transcoded, or not of the part's kind."""
    CORRUPT_MEDIA = "corrupt_media"
    """The media is empty, cut off, encrypted or damaged."""
    TOO_MANY_PIXELS = "too_many_pixels"
    """The image has more pixels than the limit."""
    TOO_MANY_PAGES = "too_many_pages"
    """The PDF file has more pages than the model accepts."""
    TOO_LARGE = "too_large"
    """The media has more bytes than the limit."""
    NOT_FOUND = "not_found"
    """No file or page is at the media's path or URI."""
    FORBIDDEN = "forbidden"
    """The media's path or URI may not be read."""
    FETCH_FAILED = "fetch_failed"
    """The media could not be read from its path or URI, for another reason."""

    @property
    def may_pass_again(self) -> bool:
        """Whether a retry of the row can succeed although the input has not changed."""
        return self in (
            DeadCode.BAD_COLUMN,
            DeadCode.TOO_LONG,
            DeadCode.REJECTED,
            DeadCode.SERVICE_ERROR,
            DeadCode.NOT_FOUND,
            DeadCode.FORBIDDEN,
            DeadCode.FETCH_FAILED,
        )

    @property
    def is_skip(self) -> bool:
        """Whether such a row counts as skipped rather than as failed."""
        return self is DeadCode.BLANK_TEXT


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetter:
    """An element of a pipeline that failed, and why."""

    element: Any
    """The element itself; for an Arrow batch or table, one with that row only."""
    code: str
    """One of DeadCode."""
    message: str
    http_status: int | None = None
    attempts: int = 0
