"""Why a row was given up on: the codes of dead letters."""

from __future__ import annotations

import enum


class DeadCode(enum.StrEnum):
    """The `code` column of a dead letter."""

    BLANK_TEXT = "blank_text"
    """The text is null, empty or white space; counted as skipped, not as failed."""
    MISSING_ID = "missing_id"
    """The id is null or not there."""
    BAD_ID = "bad_id"
    """The id is neither an integer nor a string (JSONL)."""
    BAD_JSON = "bad_json"
    """The line is no JSON object, or no UTF-8."""
    BAD_TEXT = "bad_text"
    """The text or title is no string, or cannot be sent as UTF-8 (lone surrogates)."""
    BAD_COLUMN = "bad_column"
    """A kept column of this row cannot be written with the type of the others (JSONL)."""
    TOO_LONG = "too_long"
    """The text has more tokens than the model takes, by the service's word."""
    REFUSED = "refused"
    """The service refuses this one row; `message` has its words."""
    SERVICE_ERROR = "service_error"
    """The service fails on this one row again and again while others pass."""

    @property
    def is_skip(self) -> bool:
        """Whether such a row counts as skipped rather than as failed."""
        return self is DeadCode.BLANK_TEXT
