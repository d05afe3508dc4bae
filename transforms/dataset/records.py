"""Commit records: a unit is done when its record is there; its name says all but the details."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.serialization import from_plain, to_plain
from bulkembed.schemas.units import Unit, UnitRecord
from bulkembed.transforms.dataset.part_files import is_part_name, part_stem
from bulkembed.transforms.dataset.whole_files import REPAIR

_NAME = re.compile(
    r"(?P<key>[0-9a-f]{16})-(?P<first>\d{12})-(?P<rows>\d{8})"
    r"-e(?P<embedded>\d+)-d(?P<dead>\d+)-s(?P<skipped>\d+)-g(?P<generation>\d+)"
    r"(?:-b(?P<part_bytes>\d+))?(?:-n(?P<run_number>\d+)-v(?P<digest>[0-9a-f]{16}))?\.json"
)

SPILL_SUFFIX = ".spill"
_SPILL_NAME = re.compile(r"([0-9a-f]{16})-(\d{12})-(\d{8})-g(\d+)-.+\.spill")


def record_name(record: UnitRecord) -> str:
    """Return the file name of a record.

    It tells what the record covers, its counts, its generation, the bytes of its parts, the number
    of the run that wrote it and the digest of its vectors.
    """
    unit = record.unit
    size = "" if record.part_bytes is None else f"-b{record.part_bytes}"
    digest = record.embedding_digest
    made_by = f"-n{record.run_number}-v{digest}" if digest else ""
    return (
        f"{unit.file_key}-{unit.first_row:012d}-{unit.rows:08d}"
        f"-e{record.embedded}-d{record.dead}-s{record.skipped}-g{record.generation}"
        f"{size}{made_by}.json"
    )


def parse_name(name: str) -> UnitRecord | None:
    """The record as far as its name tells; None for another file's name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    size = found["part_bytes"]
    try:
        return UnitRecord(
            Unit(found["key"], int(found["first"]), int(found["rows"])),
            int(found["embedded"]),
            int(found["dead"]),
            int(found["skipped"]),
            int(found["generation"]),
            part_bytes=None if size is None else int(size),
            run_number=int(found["run_number"] or 0),
            embedding_digest=found["digest"] or "",
        )
    except ValueError as error:
        raise OutputError(
            f"_run/units/{name}: {error}; was the file renamed? R{REPAIR[1:]}"
        ) from None


def without_overlaps(records: Iterable[UnitRecord]) -> Iterator[UnitRecord]:
    """Yield the records that count, so that no row is covered twice; ordered by file and row.

    Of records that overlap the one of the newer run counts, then the one of the higher generation,
    then the one that covers more rows.  One that does not count is left out as a whole.
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
    """Whether a record begins before a row of another one's file."""
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
    """Order records of one file, those that count first."""
    return -record.run_number, -record.generation, -record.unit.rows, record_name(record)


def run_number_in(name: str) -> int:
    """Return the run number in the name of a record, be it whole or not; 0 where there is none."""
    found = re.search(r"-n(\d+)-v", name)
    return int(found[1]) if found else 0


def spill_name(unit: Unit, generation: int, run_id: str) -> str:
    """The file name of the spill of a unit, and of the generation that its record will have."""
    return f"{unit.file_key}-{unit.first_row:012d}-{unit.rows:08d}-g{generation}-{run_id}.spill"


def parse_spill_name(name: str) -> tuple[Unit, int] | None:
    """The unit that a spill file belongs to, and its generation; None for another file's name."""
    found = _SPILL_NAME.fullmatch(name)
    return (Unit(found[1], int(found[2]), int(found[3])), int(found[4])) if found else None


def encode_record(record: UnitRecord) -> bytes:
    """Return the record as JSON."""
    content = {"version": 1, **to_plain(record), "seconds": round(record.seconds, 3)}
    content["codes"] = dict(content["codes"])
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


def decode_record(data: bytes, name: str) -> UnitRecord:
    """Return the record from its JSON.

    Raises:
        OutputError: the file is damaged, of another version, or contradicts its name.
    """
    try:
        record = _decoded(orjson.loads(data))
        if record_name(record) != name:
            raise ValueError("its content is not what its name says")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"_run/units/{name} is damaged ({error}); {REPAIR}") from None
    return record


def _decoded(content: dict[str, Any]) -> UnitRecord:
    # An older version wrote no `vectors`: then a vector was a row.
    content = {"vectors": content["embedded"], **content}
    content["codes"] = list(content["codes"].items())
    record = from_plain(content, UnitRecord)
    for name in (*record.vector_parts, *([record.dead_part] if record.dead_part else [])):
        # The parts of a record may be deleted, so it must name none but its own.
        if not is_part_name(name) or not name.startswith(part_stem(record.unit)):
            raise ValueError(f"{name!r} is no part of this unit")
    return record
