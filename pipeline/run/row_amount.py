"""Amounts of rows as a user gives them: a number, or a percentage."""

from __future__ import annotations

import dataclasses
import re

from bulkembed.schemas.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True)
class RowAmount:
    """A number of rows, or a percentage of all rows of something."""

    rows: int | None = None
    percent: float = 0.0

    def of(self, total: int) -> int:
        """Return how many rows that is; a percentage of `total` is rounded down."""
        return int(total * self.percent / 100) if self.rows is None else self.rows

    def __str__(self) -> str:
        return f"{self.percent:g}%" if self.rows is None else f"{self.rows:,}"


def parse_amount(flag: str, text: str, example: str, *, allows_zero: bool = True) -> RowAmount:
    """Parse the value of a flag, such as `1000` or `0.5%`.

    Raises:
        ConfigError: the text is neither; the message shows the example.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    number = float(found[1]) if found else 0.0
    if found and (number or allows_zero):
        if found[2] and number <= 100:
            return RowAmount(percent=number)
        if not found[2] and found[1].isdigit():
            return RowAmount(rows=int(found[1]))
    raise ConfigError(
        f"invalid {flag} {text!r}. Use a number of rows, or a percentage up to 100%, such as "
        f"{example}."
    )
