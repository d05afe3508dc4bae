"""What a night costs and changes, in plain Python: nothing of bulkembed is used here."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from nights.catalogue import Row, Snapshot


class Change(enum.StrEnum):
    """What happened to an id between two nights."""

    ADDED = "added"
    CHANGED = "changed"
    DELETED = "deleted"


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """The kind of a change, and whether the id has another vector than before."""

    change: Change
    vector_changed: bool


def embedded(rows: Snapshot) -> dict[str, Row]:
    """Return the rows that get a vector: those whose text is not blank."""
    return {one: row for one, row in rows.items() if row.text.strip()}


def new_contents(before: Snapshot, after: Snapshot) -> int:
    """Return how many texts a night has to pay: those that no row of the night before has."""
    known = {row.text for row in embedded(before).values()}
    return len({row.text for row in embedded(after).values()} - known)


def changes(before: Snapshot, after: Snapshot, columns: Sequence[str]) -> dict[str, Changed]:
    """Return the changed ids between two nights; `columns` are the kept ones."""
    old, new = embedded(before), embedded(after)
    found = {}
    for one in old.keys() | new.keys():
        if one not in old:
            found[one] = Changed(Change.ADDED, True)
        elif one not in new:
            found[one] = Changed(Change.DELETED, True)
        elif old[one].text != new[one].text:
            found[one] = Changed(Change.CHANGED, True)
        elif any(getattr(old[one], name) != getattr(new[one], name) for name in columns):
            found[one] = Changed(Change.CHANGED, False)
    return found
