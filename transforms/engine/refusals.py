"""What a refused call says of its rows."""

from __future__ import annotations

from schemas.deadletters import DeadCode
from schemas.errors import CallError

_CODES = {"too_long": DeadCode.TOO_LONG, "empty_part": DeadCode.BLANK_TEXT}


def dead_code(error: CallError) -> DeadCode:
    """Return the code of a row that fails for good because it was refused."""
    return _CODES.get(error.code, DeadCode.REFUSED)
