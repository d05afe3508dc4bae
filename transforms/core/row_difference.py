"""The difference between the rows of the input and the rows of a dataset, by id.

Rows are compared by keys, numbers made of their values: two rows with equal keys have equal values.
The functions here see arrays of keys only, so they can compare any part of all rows, provided that
it has all rows of its ids.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]

INPUT_ROW = np.dtype(
    [
        ("id_high", "<u8"),
        ("id_low", "<u8"),
        ("content", "<u8"),
        ("letter", "<u8"),
        ("columns", "<u8"),
        ("place", "<i8"),
        ("has_id", "?"),
        ("names_files", "?"),
    ]
)
"""A row of the input: the keys of its id, of its vectors' texts, of the dead letter that it would
become, and of its kept columns; its place, a number that ascends over the input; and whether its
keys change with files of media.

A row without an id has a key made of its dead letter instead, and `has_id` is False."""

COMMITTED_ROW = np.dtype(
    [
        ("id_high", "<u8"),
        ("id_low", "<u8"),
        ("content", "<u8"),
        ("columns", "<u8"),
        ("place", "<i8"),
        ("rows", "<i4"),
        ("age", "<i8"),
        ("kind", "u1"),
        ("has_id", "?"),
    ]
)
"""A committed row: a vector, all passages of one text, or a dead letter.

`content` is the key of its texts, or of a dead letter; `rows` how many consecutive rows of its part
it has; `age` grows with each later commit; `kind` is a `Kind`."""


class Kind(enum.IntEnum):
    """What a committed row is."""

    VECTORS = 0
    BLANK = 1
    """A dead letter of a blank text."""
    FAILED = 2
    """Another dead letter."""
    RETRIED = 3
    """A dead letter that is to be sent again: it equals no row of the input."""


class Why(enum.IntEnum):
    """Why a row of the input is sent, or a committed row is removed."""

    NEW = 0
    """Its id is not committed."""
    CONTENT = 1
    """Another content is committed for its id."""
    COLUMNS = 2
    """Only other kept columns are committed for its id."""
    RETRY = 3
    """It is a dead letter, and is sent again."""
    GONE = 4
    """The input has no such id."""
    SUPERSEDED = 5
    """The row of the input is another one, or is committed elsewhere too."""


@dataclasses.dataclass(frozen=True, slots=True)
class RowTally:
    """Counts of a difference; they can be added."""

    input_rows: int = 0
    repeated: int = 0
    """Rows of the input whose id a later row has; only the last row of an id counts."""
    embedded: int = 0
    """Unchanged rows with vectors."""
    dead: int = 0
    """Unchanged rows that failed."""
    skipped: int = 0
    """Unchanged blank rows."""
    new: int = 0
    content: int = 0
    columns: int = 0
    retried: int = 0
    gone: int = 0
    """Committed ids that the input does not have."""
    committed_ids: int = 0
    """Distinct ids of the dataset."""
    names_files: int = 0
    """Rows of the input that name files of media, which may change while the input does not."""

    @property
    def unchanged(self) -> int:
        """Rows of the input that are committed as they are."""
        return self.embedded + self.dead + self.skipped

    @property
    def to_send(self) -> int:
        """Rows of the input that are not committed as they are."""
        return self.new + self.content + self.columns + self.retried

    def __add__(self, other: RowTally) -> RowTally:
        return RowTally(
            *(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(RowTally))
        )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowDifference:
    """What makes the committed rows equal to the input."""

    send: Places
    """The places of the input's rows to send, shape (n,)."""
    send_why: npt.NDArray[np.uint8]
    """`Why`, shape (n,)."""
    remove: Places
    """The places of the committed rows to remove, once the rows to send are committed. A row of
    several passages has several places."""
    repeated: Places
    """The places of rows whose id a later row of the input has, shape (m,)."""
    repeated_by: Places
    """The place of the last row with the same id, shape (m,)."""
    tally: RowTally

    @classmethod
    def joined(cls, parts: list[Self]) -> RowDifference:
        """Return the difference of all rows, with its places in ascending order."""
        send = _joined([part.send for part in parts], np.int64)
        order = np.argsort(send)
        repeated = _joined([part.repeated for part in parts], np.int64)
        by_place = np.argsort(repeated)
        return RowDifference(
            send[order],
            _joined([part.send_why for part in parts], np.uint8)[order],
            np.sort(_joined([part.remove for part in parts], np.int64)),
            repeated[by_place],
            _joined([part.repeated_by for part in parts], np.int64)[by_place],
            sum((part.tally for part in parts), RowTally()),
        )


def _joined(arrays: list[npt.NDArray[Any]], kind: type) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *arrays])


def difference(wanted: npt.NDArray[np.void], committed: npt.NDArray[np.void]) -> RowDifference:
    """Compare all rows of some ids.

    The last row of an id in the input is the one that the dataset should have. If several
    committed rows equal it, the best one stays: vectors rather than a dead letter, then the one
    that was committed last. Rows without an id are compared as a multiset.

    Args:
        wanted: rows of the input, of dtype INPUT_ROW.
        committed: committed rows, of dtype COMMITTED_ROW.
    """
    wanted = wanted[np.argsort(wanted["place"])]
    committed = committed[np.argsort(committed["age"], kind="stable")]
    count = len(wanted)
    high = np.concatenate((wanted["id_high"], committed["id_high"]))
    low = np.concatenate((_ranked(wanted), _ranked(committed)))
    groups, number_of_groups = _groups(high, low)
    of_input, of_committed = groups[:count], groups[count:]

    # An assignment to repeated indices keeps the last value.
    last = np.full(number_of_groups, -1, np.int64)
    last[of_input] = np.arange(count)
    is_last = last[of_input] == np.arange(count)
    current = last[of_committed]
    exists = current >= 0
    row = wanted[current] if count else np.zeros(len(committed), INPUT_ROW)
    is_vector = committed["kind"] == Kind.VECTORS
    wanted_content = np.where(is_vector, row["content"], row["letter"])
    same_content = exists & (committed["content"] == wanted_content)
    equal = same_content & (~is_vector | (committed["columns"] == row["columns"]))
    equal &= committed["kind"] != Kind.RETRIED

    best = np.full(number_of_groups, -1, np.int64)
    for chosen in (equal & ~is_vector, equal & is_vector):
        best[of_committed[chosen]] = np.flatnonzero(chosen)
    kept = best[of_committed] == np.arange(len(committed))

    why = np.full(number_of_groups, Why.NEW, np.uint8)
    why[of_committed] = Why.CONTENT
    why[of_committed[same_content & ~is_vector]] = Why.RETRY
    why[of_committed[same_content & is_vector]] = Why.COLUMNS
    send = is_last & (best[of_input] < 0)
    send_why = why[of_input[send]]
    kinds = committed["kind"][kept]
    sent = np.bincount(send_why, minlength=len(Why))
    tally = RowTally(
        input_rows=count,
        repeated=count - int(is_last.sum()),
        embedded=int((kinds == Kind.VECTORS).sum()),
        dead=int((kinds == Kind.FAILED).sum()),
        skipped=int((kinds == Kind.BLANK).sum()),
        new=int(sent[Why.NEW]),
        content=int(sent[Why.CONTENT]),
        columns=int(sent[Why.COLUMNS]),
        retried=int(sent[Why.RETRY]),
        gone=_distinct(of_committed[~exists & committed["has_id"]], number_of_groups),
        committed_ids=_distinct(of_committed[committed["has_id"]], number_of_groups),
        names_files=int(wanted["names_files"].sum()),
    )
    return RowDifference(
        wanted["place"][send],
        send_why,
        _expanded(committed["place"][~kept], committed["rows"][~kept]),
        wanted["place"][~is_last],
        wanted["place"][last[of_input[~is_last]]],
        tally,
    )


def _ranked(rows: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """Return the second halves of the ids' keys; equal rows without an id get different ones."""
    low = rows["id_low"].copy()
    without = np.flatnonzero(~rows["has_id"])
    if len(without):
        order = without[np.lexsort((low[without], rows["id_high"][without]))]
        starts = np.ones(len(order), bool)
        for name in (rows["id_high"], low):
            starts[1:] &= name[order[1:]] == name[order[:-1]]
        starts[1:] = ~starts[1:]
        begins = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
        rank = (np.arange(len(order)) - begins).astype(np.uint64)
        low[order] += rank * np.uint64(0x9E3779B97F4A7C15)
    return low


def _groups(
    high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.int64], int]:
    """Return a number for each pair of keys, equal for equal pairs, and how many there are."""
    if not len(high):
        return np.empty(0, np.int64), 0
    order = np.lexsort((low, high))
    high, low = high[order], low[order]
    changes = np.concatenate(([0], (high[1:] != high[:-1]) | (low[1:] != low[:-1])))
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(changes)
    return numbers, int(changes.sum()) + 1


def _distinct(groups: npt.NDArray[np.int64], number_of_groups: int) -> int:
    found = np.zeros(number_of_groups, bool)
    found[groups] = True
    return int(found.sum())


def _expanded(places: Places, rows: npt.NDArray[np.int32]) -> Places:
    """Return each place, and those after it that belong to the same row."""
    ends = np.cumsum(rows, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(places - (ends - rows), rows) + np.arange(total)
