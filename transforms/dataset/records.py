"""Commit records: which rows of a dataset are committed.

A unit is committed once its record exists. The name of a record has everything except details.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

import orjson

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.serialization import from_plain, to_plain
from bulkembed.schemas.units import GroupRecord, PartsRecord, Unit, UnitRecord
from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.dataset.atomic_files import REPAIR
from bulkembed.transforms.dataset.layout import (
    DEAD_LETTERS,
    VECTORS,
    is_part_name,
    parse_record_name,
    part_name,
    part_stem,
    record_name,
    short_name,
)


@dataclasses.dataclass(frozen=True, slots=True)
class RecordParts:
    """The parts that a record names, by their names within the dataset."""

    vectors: tuple[str, ...] = ()
    dead_letters: tuple[str, ...] = ()
    """One at most."""

    @classmethod
    def of(cls, record: PartsRecord) -> RecordParts:
        """Return the parts of a record that was read from its file.

        Those of a unit of a group have rows of other units as well; see its `place`.
        """
        if isinstance(record, GroupRecord):
            vectors = {part for member in record.members for part in member.vector_parts}
            dead_letters = {member.dead_part for member in record.members if member.dead_part}
            return cls(
                tuple(f"{VECTORS}/{name}" for name in sorted(vectors)),
                tuple(f"{DEAD_LETTERS}/{name}" for name in dead_letters),
            )
        dead = () if record.dead_part is None else (f"{DEAD_LETTERS}/{record.dead_part}",)
        return cls(tuple(f"{VECTORS}/{name}" for name in record.vector_parts), dead)

    @classmethod
    def by_name(cls, record: UnitRecord) -> RecordParts:
        """Return the parts of a record of the first generation: its counts say which there are."""
        name = part_name(record)
        dead = (f"{DEAD_LETTERS}/{name}",) if record.dead + record.skipped else ()
        return cls((f"{VECTORS}/{name}",) if record.embedded else (), dead)

    @property
    def all(self) -> tuple[str, ...]:
        """All parts, those with vectors first."""
        return self.vectors + self.dead_letters


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetState:
    """What the commit records say: each row is covered by one record at most."""

    records: tuple[UnitRecord, ...] = ()
    """In the order of files and rows. Those of units of groups have a `place`."""
    groups: tuple[GroupRecord, ...] = ()
    """The groups with units that count."""
    stale: tuple[str, ...] = ()
    """Names of records that do not count, and of unfinished files beside the records."""
    unnamed: tuple[str, ...] = ()
    """Parts that no record names, as far as they were listed: readers would read their rows."""
    damaged: tuple[UnitRecord, ...] = ()
    """Records that do not count because parts of theirs are damaged; others may be undamaged."""

    @classmethod
    def of(
        cls,
        found: Iterable[UnitRecord],
        digest: str = "",
        first_run_number: int = 0,
        groups: Iterable[GroupRecord] = (),
    ) -> DatasetState:
        """Return the state that records describe, in whatever order they were written.

        Args:
            found: the records of single units.
            digest: the embedding digest of the dataset; records with another one do not count.
                Records of older versions have no digest in their names, and count. Empty: any.
            first_run_number: records of earlier runs do not count: their rows were overwritten.
            groups: the records of groups; of those with one key the newest counts.
        """

        def is_ours(record: PartsRecord) -> bool:
            is_late = record.run_number < first_run_number
            return not is_late and (not digest or record.embedding_digest in ("", digest))

        newest: dict[str, GroupRecord] = {}
        for group in filter(is_ours, groups):
            rival = newest.get(group.key)
            if rival is None or rival.age < group.age:
                newest[group.key] = group
        members = (member for group in newest.values() for member in group.members)
        records = tuple(without_overlaps([*filter(is_ours, found), *members]))
        counted = {record.place.record for record in records if record.place is not None}
        ordered = sorted(newest.values(), key=record_name)
        return cls(records, tuple(one for one in ordered if record_name(one) in counted))

    def without(self, removed: Set[UnitRecord]) -> DatasetState:
        """Return the state without some records, whose names become stale.

        A group goes as a whole: all of its units are to be removed.
        """
        names = dict.fromkeys(record_name(record) for record in removed)
        return dataclasses.replace(
            self,
            records=tuple(record for record in self.records if record not in removed),
            groups=tuple(group for group in self.groups if record_name(group) not in names),
            stale=(*self.stale, *names),
        )

    def parts_records(self) -> Iterator[PartsRecord]:
        """Yield the records that have parts of their own: of units outside of groups, of groups."""
        yield from (record for record in self.records if record.place is None)
        yield from self.groups

    def units_of(self, record: PartsRecord) -> list[UnitRecord]:
        """Return the unit of a record, or the units of a group that count."""
        if isinstance(record, UnitRecord):
            return [record]
        members = set(record.members)
        return [one for one in self.records if one in members]

    def replaced_units(self) -> Iterator[tuple[GroupRecord, list[Unit]]]:
        """Yield the groups with units whose rows another record covers, each with these units.

        Readers of the folder would read the rows of both.
        """
        counted = {(one.place.record, one.unit) for one in self.records if one.place is not None}
        for group in self.groups:
            name = record_name(group)
            units = [one.unit for one in group.members if (name, one.unit) not in counted]
            if units:
                yield group, units

    def overlapping(self, unit: Unit) -> list[UnitRecord]:
        """Return the records that cover a row of a unit."""
        return [
            record
            for record in self.records
            if record.unit.file_key == unit.file_key
            and record.unit.first_row < unit.end_row
            and unit.first_row < record.unit.end_row
        ]

    def covered(self) -> dict[str, list[RowRange]]:
        """Return the committed rows by file key."""
        runs: dict[str, list[RowRange]] = collections.defaultdict(list)
        for record in self.records:
            runs[record.unit.file_key].append((record.unit.first_row, record.unit.rows))
        return runs


def named_record(name: str) -> UnitRecord | None:
    """Return as much of a record as its file name has; None for the name of another file.

    Raises:
        OutputError: the numbers in the name contradict each other.
    """
    try:
        return parse_record_name(name)
    except ValueError as error:
        raise OutputError(f"_run/units/{name}: {error}. Was the file renamed? {REPAIR}") from None


def without_overlaps(records: Iterable[UnitRecord]) -> Iterator[UnitRecord]:
    """Yield the records that count, in the order of files and rows: none covers a row of another.

    Of overlapping records the one of the newer run counts, then the one of the higher generation,
    then the one that covers more rows. A record that does not count is left out as a whole.
    """
    ordered = sorted(records, key=lambda record: record.unit)
    start = 0
    while start < len(ordered):
        end, reached = start + 1, ordered[start].unit.end_row
        while end < len(ordered) and _begins_before(ordered[end], ordered[start], reached):
            reached = max(reached, ordered[end].unit.end_row)
            end += 1
        yield from ordered[start:end] if end == start + 1 else _winners(ordered[start:end])
        start = end


def _begins_before(record: UnitRecord, other: UnitRecord, row: int) -> bool:
    """Return whether a record of the same file as another one begins before a row."""
    return record.unit.file_key == other.unit.file_key and record.unit.first_row < row


def _winners(records: Sequence[UnitRecord]) -> list[UnitRecord]:
    """Return the records of one file that count, ordered by row."""
    kept: list[UnitRecord] = []
    for record in sorted(records, key=_rank):
        at = bisect.bisect(kept, record.unit.first_row, key=lambda one: one.unit.first_row)
        free_from = kept[at - 1].unit.end_row if at else 0
        free_to = kept[at].unit.first_row if at < len(kept) else record.unit.end_row
        if free_from <= record.unit.first_row and record.unit.end_row <= free_to:
            kept.insert(at, record)
    return kept


def _rank(record: UnitRecord) -> tuple[int, int, int, str]:
    """Order records of one file by precedence."""
    return -record.run_number, -record.generation, -record.unit.rows, record_name(record)


def encode_record(record: UnitRecord) -> bytes:
    """Return a record as JSON."""
    content = {"version": 1, **to_plain(record), "seconds": round(record.seconds, 3)}
    del content["place"]  # Only a record that is read from a group has one.
    if not record.is_partitioned:
        del content["is_partitioned"], content["part_rows"]
    content["codes"] = dict(content["codes"])
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


def decode_record(data: bytes, name: str) -> UnitRecord:
    """Return the record that JSON holds.

    Raises:
        OutputError: the file is damaged, of another version, or contradicts its name.
    """
    try:
        record = _decoded(orjson.loads(data))
        if record_name(record) != name:
            raise ValueError("its content contradicts its name")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"_run/units/{name} is damaged ({error}). {REPAIR}") from None
    return record


_REQUIRED = ("generation", "source_file", "run_id", "counts", "vector_parts", "dead_part")
"""Fields of `UnitRecord` that have a default, but that every version writes."""


def _decoded(content: dict[str, Any]) -> UnitRecord:
    for name in _REQUIRED:
        if name not in content:
            raise ValueError(f"{name!r} is missing")
    # An older version wrote no `vectors`: then a vector was a row.
    content = {"vectors": content["embedded"], **content}
    content["codes"] = list(content["codes"].items())
    record = from_plain({**content, "place": None}, UnitRecord)
    if record.is_partitioned and len(record.part_rows) != len(record.vector_parts):
        raise ValueError("'part_rows' and 'vector_parts' contradict each other")
    dead_parts = () if record.dead_part is None else (record.dead_part,)
    for name in (*record.vector_parts, *dead_parts):
        # The parts of a record may be deleted, so it must name none but its own.
        if not is_part_name(name) or not short_name(name).startswith(part_stem(record.unit)):
            raise ValueError(f"{name!r} is not a part of this unit")
    return record
