"""The limit of what a run may delete: a half-arrived input must not empty a dataset."""

from __future__ import annotations

import dataclasses
import re

from bulkembed.schemas.errors import ConfigError, TooManyDeletes
from bulkembed.schemas.messages import number_of


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteLimit:
    """How many rows a run may delete: a number, or a percentage of the rows of the dataset."""

    rows: int | None = None
    percent: float | None = None

    def allowed(self, total: int) -> int:
        """Return how many of a dataset's rows may be deleted."""
        return self.rows if self.rows is not None else int(total * (self.percent or 0.0) / 100)

    def __str__(self) -> str:
        return f"{self.rows:,}" if self.rows is not None else f"{self.percent or 0.0:g}%"


DEFAULT_DELETE_LIMIT = DeleteLimit(percent=5.0)


def parse_delete_limit(text: str) -> DeleteLimit:
    """Parse a limit such as `1000` or `5%`.

    Raises:
        ConfigError: the text is neither.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    if found and found.group(2) and float(found.group(1)) <= 100:
        return DeleteLimit(percent=float(found.group(1)))
    if found and not found.group(2) and found.group(1).isdigit():
        return DeleteLimit(rows=int(found.group(1)))
    raise ConfigError(
        f"invalid --max-delete {text!r}. Use a number of rows, or a percentage up to 100%, such as "
        "5%."
    )


def check_deletes(deleted: int, total: int, limit: DeleteLimit, what: str) -> None:
    """Check that a run deletes no more than it may; call this before anything is sent or deleted.

    Args:
        deleted: how many rows of the dataset the run would delete.
        total: how many rows the dataset has.
        limit: how many it may delete.
        what: why the rows are to be deleted, as the subject of the message, such as
            `out/docs: 3 input files are missing`.

    Raises:
        TooManyDeletes: the limit is exceeded.
    """
    allowed = limit.allowed(total)
    if deleted <= allowed:
        return
    raise TooManyDeletes(
        f"{what}. This run would delete {deleted:,} of {number_of(total, 'row')} "
        f"({100 * deleted / total:.3g} %), but --max-delete {limit} allows {allowed:,}. Nothing "
        "was deleted or sent. If the input is complete and these rows are to go, rerun with "
        f"--max-delete {deleted}.",
        deleted=deleted,
        allowed=allowed,
    )
