"""What a run says when the service makes it end."""

from __future__ import annotations

import datetime as dt

from bulkembed.schemas.errors import BadAnswer, CallError, QuotaExceeded
from bulkembed.schemas.stop import RERUN


def day_spent_message(resets_at: float) -> str:
    """Return the message after the day's quota was used up; it resets at `resets_at`."""
    when = dt.datetime.fromtimestamp(resets_at).astimezone()
    return (
        f"the day's quota is spent and resets at {when:%Y-%m-%d %H:%M %Z}. "
        "Then rerun the same command to resume."
    )


def failed_throughout_message(deadline_s: float, error: CallError) -> str:
    """Return the message after no call has passed for so long; `error` is the last one."""
    words = error.message.rstrip(".")
    if isinstance(error, QuotaExceeded):
        return (
            f"every request was rate-limited (429) for {deadline_s:g} s: {words}. Check whether "
            "the project's credits are used up. Then rerun the same command to resume."
        )
    return f"the service failed for {deadline_s:g} s: {words}. {RERUN}"


def hopeless_message(error: CallError) -> str:
    """Return the message after answers that cost money, or come from a proxy, and are no use."""
    if isinstance(error, BadAnswer):
        return (
            "the service's answers are unusable, and each may cost money: "
            f"{error.message.rstrip('.')}. Check the service, --model and --dim. "
            "Then rerun the same command to resume."
        )
    return error.message
