"""Histories of an export: what people do to rows and files between two runs, in plain Python."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from nights.catalogue import Night, Row

TEXTS = tuple(f"text {number} of the catalogue" for number in range(12))
"""A few texts, so that rows often share one and a text often comes back."""
BLANK = len(TEXTS)
NAMES = ("a.parquet", "b.jsonl", "c.parquet", "new/d.parquet", "new/e.jsonl.gz", "f.parquet")


class What(enum.StrEnum):
    """What happens to a row or a file; a row or file that is not there is left alone."""

    EDIT = "edit a row"
    LABEL = "change a column of a row"
    ADD = "add a row"
    REMOVE = "remove a row"
    MOVE = "move a row to another file"
    RENAME = "rename a file"
    REVERSE = "write a file in another order"
    SPLIT = "move half of a file to another one"
    EMPTY = "remove all rows of a file"
    DROP = "delete a file"


@dataclasses.dataclass(frozen=True, slots=True)
class Deed:
    """One thing that happens; `which` selects a row or file, `to` a text or another file."""

    what: What
    which: int
    to: int


class Export:
    """The files of an export, which deeds change."""

    def __init__(self, rows: int) -> None:
        self.files: dict[str, list[Row]] = {name: [] for name in NAMES[:2]}
        self._ids = 0
        for number in range(rows):
            self.do(Deed(What.ADD, number, number))

    def do(self, deed: Deed) -> None:
        """Let a thing happen."""
        if not self.files:
            self.files[NAMES[deed.to % len(NAMES)]] = []
        names = sorted(self.files)
        name = names[deed.which % len(names)]
        places = [(file, at) for file in names for at in range(len(self.files[file]))]
        match deed.what:
            case What.ADD:
                self.files[name].append(Row(f"id-{self._ids}", _text(deed.to), "kind 0"))
                self._ids += 1
            case What.EMPTY:
                self.files[name] = []
            case What.DROP:
                del self.files[name]
            case What.REVERSE:
                self.files[name].reverse()
            case What.RENAME:
                self._put(NAMES[deed.to % len(NAMES)], self.files.pop(name))
            case What.SPLIT:
                rows = self.files[name]
                self.files[name] = rows[::2]
                self._put(NAMES[deed.to % len(NAMES)], rows[1::2])
            case _ if places:
                self._do_to_row(deed, *places[deed.which % len(places)])

    def _do_to_row(self, deed: Deed, name: str, at: int) -> None:
        row = self.files[name][at]
        match deed.what:
            case What.EDIT:
                self.files[name][at] = dataclasses.replace(row, text=_text(deed.to))
            case What.LABEL:
                self.files[name][at] = dataclasses.replace(row, kind=f"kind {deed.to}")
            case What.REMOVE:
                del self.files[name][at]
            case What.MOVE:
                del self.files[name][at]
                self._put(NAMES[deed.to % len(NAMES)], [row])

    def _put(self, name: str, rows: Iterable[Row]) -> None:
        self.files.setdefault(name, []).extend(rows)

    def night(self, number: int) -> Night:
        """Return what is exported now."""
        rows = {row.id: row for file in self.files.values() for row in file}
        files = {name: [row.id for row in file] for name, file in self.files.items()}
        return Night(number, rows, files or {NAMES[0]: []})


def _text(number: int) -> str:
    return " " if number % (BLANK + 1) == BLANK else TEXTS[number % (BLANK + 1)]


def deeds() -> st.SearchStrategy[Sequence[Deed]]:
    """Return what may happen between two runs."""
    numbers = st.integers(0, 40)
    return st.lists(st.builds(Deed, st.sampled_from(What), numbers, numbers), max_size=8)
