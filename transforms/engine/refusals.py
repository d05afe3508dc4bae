"""What a refused call says of its rows."""

from __future__ import annotations

from schemas.deadletters import DeadCode
from schemas.errors import CallError

_CODES = {"too_long": DeadCode.TOO_LONG, "empty_part": DeadCode.BLANK_TEXT}


def named_number(error: CallError, fact: str) -> int | None:
    """A whole number among the facts of an error; None where it is not there."""
    value = error.facts.get(fact)
    return value if isinstance(value, int) else None


def dead_code(error: CallError) -> DeadCode:
    """The code of a row that is given up on for a refusal."""
    return _CODES.get(str(error.facts.get("code")), DeadCode.REFUSED)
