"""Tables of img2dataset, which keep rows whose image could not be downloaded."""

from __future__ import annotations

import re
from collections.abc import Collection

from bulkembed.schemas.dead_letters import DeadCode

STATUS, ERROR = "status", "error_message"
_COLUMNS = {"url", "key", STATUS, ERROR}
_CODES = {
    "404": DeadCode.NOT_FOUND,
    "410": DeadCode.NOT_FOUND,
    "401": DeadCode.FORBIDDEN,
    "403": DeadCode.FORBIDDEN,
    "451": DeadCode.FORBIDDEN,
}
_HTTP_ERROR = re.compile(r"HTTP Error (\d{3})")


def is_img2dataset(columns: Collection[str]) -> bool:
    """Return whether a table with these columns is one of img2dataset."""
    return set(columns) >= _COLUMNS


def download_fault(status: str | None, error: str | None) -> tuple[DeadCode, str] | None:
    """Return why a row has no image; None if its download succeeded.

    Args:
        status: `success`, `failed_to_download` or `failed_to_resize`.
        error: the error in the words of img2dataset.
    """
    if status == "success":
        return None
    what = f"img2dataset has no image: {status or 'no status'}" + (f": {error}" if error else "")
    if status == "failed_to_resize":
        return DeadCode.CORRUPT_MEDIA, what
    answer = _HTTP_ERROR.search(error or "")
    return _CODES.get(answer[1] if answer else "", DeadCode.FETCH_FAILED), what
