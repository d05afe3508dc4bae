"""Commit records: a unit is done when its record is there; counts and size stand in its name."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import orjson

from schemas.deadletters import DeadCode
from schemas.errors import OutputError
from schemas.units import CallCounts, Unit, UnitRecord

_NAME = re.compile(
    r"(?P<key>[0-9a-f]{16})-(?P<first>\d{12})-(?P<rows>\d{8})"
    r"-e(?P<embedded>\d+)-d(?P<dead>\d+)-s(?P<skipped>\d+)-g(?P<generation>\d+)"
    r"(?:-b(?P<part_bytes>\d+))?\.json"
)

NUMBERS = ("first", "rows", "embedded", "dead", "skipped", "generation")

SPILL_SUFFIX = ".spill"
_SPILL_NAME = re.compile(r"([0-9a-f]{16})-(\d{12})-(\d{8})-g(\d+)-.+\.spill")


def record_name(record: UnitRecord) -> str:
    """The file name of a record: what it covers, its counts, and the bytes of its parts."""
    unit = record.unit
    size = "" if record.part_bytes is None else f"-b{record.part_bytes}"
    return (
        f"{unit.file_key}-{unit.first_row:012d}-{unit.rows:08d}"
        f"-e{record.embedded}-d{record.dead}-s{record.skipped}-g{record.generation}{size}.json"
    )


def parse_name(name: str) -> UnitRecord | None:
    """The record as far as its name tells; None for another file's name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    size = found["part_bytes"]
    number = {name: int(found[name]) for name in NUMBERS}
    unit = Unit(found["key"], number["first"], number["rows"])
    try:
        return UnitRecord(
            unit,
            number["embedded"],
            number["dead"],
            number["skipped"],
            number["generation"],
            part_bytes=None if size is None else int(size),
        )
    except ValueError as error:
        raise OutputError(f"_run/units/{name}: {error}; was the file renamed?") from None


def spill_name(unit: Unit, generation: int, run_id: str) -> str:
    """The file name of the spill of a unit, and of the generation that its record will have."""
    return f"{unit.file_key}-{unit.first_row:012d}-{unit.rows:08d}-g{generation}-{run_id}.spill"


def parse_spill_name(name: str) -> tuple[Unit, int] | None:
    """The unit that a spill file belongs to, and its generation; None for another file's name."""
    found = _SPILL_NAME.fullmatch(name)
    return (Unit(found[1], int(found[2]), int(found[3])), int(found[4])) if found else None


def encode_record(record: UnitRecord) -> bytes:
    """The record as JSON, whole."""
    content: dict[str, Any] = {
        "version": 1,
        "unit": dataclasses.asdict(record.unit),
        "embedded": record.embedded,
        "dead": record.dead,
        "skipped": record.skipped,
        "generation": record.generation,
        "source_file": record.source_file,
        "run_id": record.run_id,
        "codes": {str(code): count for code, count in record.codes},
        "counts": dataclasses.asdict(record.counts),
        "vector_parts": record.vector_parts,
        "dead_part": record.dead_part,
        "vectors": record.vectors,
        "seconds": round(record.seconds, 3),
        "part_bytes": record.part_bytes,
    }
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


def decode_record(data: bytes, name: str) -> UnitRecord:
    """The record from its JSON.

    Raises:
        OutputError: the file is damaged, or of another version.
    """
    try:
        content = orjson.loads(data)
        return UnitRecord(
            unit=Unit(**content["unit"]),
            embedded=content["embedded"],
            dead=content["dead"],
            skipped=content["skipped"],
            generation=content["generation"],
            source_file=content["source_file"],
            run_id=content["run_id"],
            codes=tuple((DeadCode(code), n) for code, n in content["codes"].items()),
            counts=CallCounts(**content["counts"]),
            vector_parts=tuple(content["vector_parts"]),
            dead_part=content["dead_part"],
            vectors=content.get("vectors", content["embedded"]),
            seconds=float(content.get("seconds", 0.0)),
            part_bytes=content.get("part_bytes"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"_run/units/{name} is damaged ({error}); delete it, and its rows are done anew"
        ) from None
