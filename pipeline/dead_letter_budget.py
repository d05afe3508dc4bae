"""`--max-dead-letters N|P%`: how many rows a run may give up on."""

from __future__ import annotations

import dataclasses
import re

from schemas.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetterBudget:
    """A number of rows, or a part of those that are planned, and a least number."""

    rows: int | None = None
    percent: float | None = None
    at_least: int = 0

    def allowed(self, planned_rows: int) -> int:
        """The most rows that may be given up on; blank ones are not counted."""
        if self.rows is not None:
            return self.rows
        return max(self.at_least, self._part(planned_rows))

    def allowed_in_failed_files(self, planned_rows: int) -> int:
        """Return the most rows of files without one embedded row: `at_least` does not cover them.

        A file that fails as a whole is not what the run takes it for, however few rows it has.
        """
        return self._part(planned_rows) if self.rows is None else self.rows

    def _part(self, planned_rows: int) -> int:
        return int(planned_rows * (self.percent or 0.0) / 100)


DEFAULT_BUDGET = DeadLetterBudget(percent=1.0, at_least=10)


def parse_budget(text: str | None) -> DeadLetterBudget:
    """The budget that `25` or `0.5%` stands for; None for the default.

    Raises:
        ConfigError: it is neither.
    """
    if text is None:
        return DEFAULT_BUDGET
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    if found and found.group(2) and float(found.group(1)) <= 100:
        return DeadLetterBudget(percent=float(found.group(1)))
    if found and not found.group(2) and found.group(1).isdigit():
        return DeadLetterBudget(rows=int(found.group(1)))
    raise ConfigError(f"--max-dead-letters {text}: give a number of rows, or a part such as 0.5%")
