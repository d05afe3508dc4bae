"""A catalogue that is exported again each night: its rows, what happens to them, and its files.

Everything here is plain Python: a snapshot is a dict, and what a night changes is drawn from one
seed.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.pipeline.demo.corpus import Docstring

EDITED, NEW, GONE = 0.03, 0.02, 0.01
"""What a night changes, as shares of the rows."""
COLUMNS_CHANGED = 0.005
"""Rows of which only a kept column changes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A row of the catalogue; `lang` exists from the night that adds this column."""

    id: str
    text: str
    kind: str
    lang: str | None = None


Snapshot = Mapping[str, Row]
"""The rows of a night by their ids, in the order of the export."""


@dataclasses.dataclass(frozen=True, slots=True)
class Night:
    """What the export of a night contains, and how it is laid out in files."""

    number: int
    rows: Snapshot
    files: Mapping[str, Sequence[str]]
    """The ids of each file, in their order."""
    columns: tuple[str, ...] = ("kind",)
    """The columns beside id and text."""

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the bytes of each file."""
        for name, ids in self.files.items():
            yield name, file_bytes(name, [self.rows[one] for one in ids], self.columns)


def file_bytes(name: str, rows: Sequence[Row], columns: Sequence[str]) -> bytes:
    """Return a file in the format of its name."""
    names = ("id", "text", *columns)
    if name.endswith(".parquet"):
        schema = pa.schema([(column, pa.string()) for column in names])
        values = {column: [getattr(row, column) for row in rows] for column in names}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(values, schema=schema), sink, row_group_size=400)
        return bytes(sink.getvalue().to_pybytes())
    lines = [json.dumps({column: getattr(row, column) for column in names}) for row in rows]
    data = "".join(f"{line}\n" for line in lines).encode()
    return gzip.compress(data, mtime=0) if name.endswith(".gz") else data


def first_snapshot(docstrings: Iterable[Docstring]) -> dict[str, Row]:
    """Return the catalogue of the first night."""
    return {one.id: Row(one.id, one.text, one.kind) for one in docstrings}


def changed_snapshot(rows: Snapshot, chance: random.Random) -> dict[str, Row]:
    """Return the rows of the next night, in another order.

    Some edits give a row a text that another row has, and some give two rows the same new text:
    neither costs a text of its own.
    """
    ids = sorted(rows)
    chance.shuffle(ids)
    count = len(ids)
    ends = [
        round(count * share) for share in (GONE, GONE + EDITED, GONE + EDITED + COLUMNS_CHANGED)
    ]
    edited, moved, kept = ids[ends[0] : ends[1]], ids[ends[1] : ends[2]], ids[ends[2] :]
    after = {one: rows[one] for one in kept}
    for one in moved:
        after[one] = dataclasses.replace(rows[one], kind=f"{rows[one].kind}, moved")
    for number, one in enumerate(edited):
        after[one] = dataclasses.replace(rows[one], text=_new_text(rows, kept, number, one, chance))
    for number in range(round(count * NEW)):
        name = f"new.{chance.randrange(10**9)}.{number}"
        after[name] = Row(name, _new_text(rows, kept, number, name, chance), "new")
    order = sorted(after)
    chance.shuffle(order)
    return {one: after[one] for one in order}


def _new_text(
    rows: Snapshot, kept: Sequence[str], number: int, name: str, chance: random.Random
) -> str:
    """Return a text: every fifth is one that exists, every seventh is shared by several rows."""
    if number % 5 == 4:
        return rows[chance.choice(kept)].text
    if number % 7 == 6:
        return f"A text that several rows get in this night, number {number // 21}."
    return f"Of {name}, edited: {rows[chance.choice(kept)].text}"


def with_languages(rows: Snapshot) -> dict[str, Row]:
    """Return the same rows with the new column."""
    languages = ("de", "en", "fr")
    return {
        one: dataclasses.replace(row, lang=languages[len(row.text) % 3])
        for one, row in rows.items()
    }


def split(
    ids: Sequence[str], names: Sequence[str], chance: random.Random
) -> dict[str, Sequence[str]]:
    """Return files of random sizes that hold the rows in their order."""
    cuts = sorted(chance.sample(range(1, len(ids)), len(names) - 1))
    return {
        name: ids[begin:end]
        for name, begin, end in zip(names, [0, *cuts], [*cuts, len(ids)], strict=True)
    }


def five_nights(docstrings: Sequence[Docstring], seed: int = 1) -> list[Night]:
    """Return five nights of a catalogue.

    Night 2: 3 % of the texts are edited, 2 % of the rows are new, 1 % are gone, and the files have
    other names, other sizes and another order. Night 3 is night 2. Night 4 has a new column. In
    night 5, half of night 4 is missing.
    """
    chance = random.Random(seed)
    first = first_snapshot(docstrings)
    names = ("docs-0.parquet", "docs-1.parquet", "docs-2.jsonl.gz")
    nights = [Night(1, first, split(list(first), names, chance))]
    second = changed_snapshot(first, chance)
    names = ("export/a.parquet", "export/b.jsonl", "export/c.parquet", "export/d.jsonl.gz")
    files = split(list(second), names, chance)
    nights += [Night(2, second, files), Night(3, second, files)]
    third = with_languages(second)
    nights.append(Night(4, third, files, ("kind", "lang")))
    return [*nights, half_of(nights[-1], 5)]


def half_of(night: Night, number: int) -> Night:
    """Return an export that has arrived only half: every second file is missing."""
    files = dict(list(night.files.items())[::2])
    rows = {one: night.rows[one] for ids in files.values() for one in ids}
    return Night(number, rows, files, night.columns)


def shuffled(night: Night) -> Night:
    """Return the same rows in other files and in another order."""
    chance = random.Random(night.number)
    ids = sorted(night.rows)
    chance.shuffle(ids)
    names = ("other/1.jsonl.gz", "other/2.parquet", "other/3.parquet")
    return dataclasses.replace(night, files=split(ids, names, chance))
