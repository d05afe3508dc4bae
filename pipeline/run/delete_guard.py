"""The limit of what a run may delete: a half-arrived input must not empty a dataset."""

from __future__ import annotations

from bulkembed.pipeline.run.row_amount import RowAmount
from bulkembed.schemas.errors import TooManyDeletes
from bulkembed.schemas.messages import number_of

DEFAULT_DELETE_LIMIT = RowAmount(percent=5.0)


def check_deletes(deleted: int, total: int, limit: RowAmount, what: str) -> None:
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
    allowed = limit.of(total)
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
