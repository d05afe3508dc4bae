"""Scanned files that are alike to whoever decides the types of columns.

An input may have 100,000 files, most of which have the same columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from bulkembed.transforms.inputs.hive_keys import INT64, hive_keys
from bulkembed.transforms.inputs.input_files import ScannedFile


@dataclasses.dataclass(frozen=True, slots=True)
class SimilarFiles:
    """Files with the same columns, types and hive keys."""

    first: ScannedFile
    names: list[str]
    """Of all of them, in order."""


def similar_files(scanned: Iterable[ScannedFile]) -> list[SimilarFiles]:
    """Return the groups of files that are alike, in the order of their first files."""
    groups: dict[tuple[object, ...], list[SimilarFiles]] = {}
    found = []
    for file in scanned:
        known = groups.setdefault(_facts(file), [])
        group = next((one for one in known if _has_types_of(one.first, file)), None)
        if group is None:
            group = SimilarFiles(file, [])
            known.append(group)
            found.append(group)
        group.names.append(file.found.name)
    return found


def may_exceed_int64(file: ScannedFile) -> bool:
    """Return whether an id may be larger than int64 holds."""
    return file.rows > 0 and (file.id_range is None or file.id_range[1] not in INT64)


def may_be_negative(file: ScannedFile) -> bool:
    """Return whether an id may be negative."""
    return file.rows > 0 and (file.id_range is None or file.id_range[0] < 0)


def _facts(file: ScannedFile) -> tuple[object, ...]:
    return (
        file.columns,
        file.found.format,
        file.rows > 0,
        len(file.id_rows),
        may_exceed_int64(file),
        may_be_negative(file),
        file.unsigned,
        file.wide,
        tuple(file.hive_keys.items()),
        tuple(hive_keys(file.found.name)),
    )


def _has_types_of(one: ScannedFile, other: ScannedFile) -> bool:
    return bool(one.schema.equals(other.schema) and one.narrow.equals(other.narrow))
