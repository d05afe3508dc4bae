"""Why a row was given up on: dead letters and their codes."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any


class DeadCode(enum.StrEnum):
    """The `code` column of a dead letter."""

    BLANK_TEXT = "blank_text"
    """The text is null, empty or white space; counted as skipped, not as failed."""
    MISSING_ID = "missing_id"
    """The id is null or not there."""
    BAD_ID = "bad_id"
    """The id is no integer and no string."""
    BAD_JSON = "bad_json"
    """The line is no JSON object, or no UTF-8."""
    BAD_TEXT = "bad_text"
    """The text or title is no string, or cannot be sent as UTF-8 (lone surrogates)."""
    BAD_COLUMN = "bad_column"
    """Of earlier versions: a kept column could not be written with the type of the others."""
    TOO_LONG = "too_long"
    """The text has more tokens than the model takes, by the service's word."""
    REFUSED = "refused"
    """The service refuses this one row; `message` has its words."""
    NO_MEAN = "no_mean"
    """The vectors of the text's passages cancel each other out."""
    SERVICE_ERROR = "service_error"
    """The service fails on this one row again and again while others pass."""

    @property
    def may_pass_again(self) -> bool:
        """Whether sending the row again can help while the input stays as it is."""
        return self in (
            DeadCode.BAD_COLUMN,
            DeadCode.TOO_LONG,
            DeadCode.REFUSED,
            DeadCode.SERVICE_ERROR,
        )

    @property
    def is_skip(self) -> bool:
        """Whether such a row counts as skipped rather than as failed."""
        return self is DeadCode.BLANK_TEXT


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetter:
    """An element of a pipeline that was given up on, and why."""

    element: Any
    """As it came in; of an Arrow batch or table, one of that row alone."""
    code: str
    """One of DeadCode."""
    message: str
    http_status: int | None = None
    attempts: int = 0
