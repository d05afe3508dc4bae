"""Records of groups: units whose rows are in merged parts, so that a dataset has few large files.

The record of a group replaces the records of its units, and is the only one that names its parts.
The rows of a unit are consecutive in each part, in the order of the units.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import hashlib
import itertools
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.serialization import Count, from_plain, to_plain
from bulkembed.schemas.units import CallCounts, GroupPlace, GroupRecord, Unit, UnitRecord
from bulkembed.transforms.dataset.atomic_files import REPAIR
from bulkembed.transforms.dataset.layout import (
    in_partition,
    part_name,
    partition_of,
    record_name,
)

GROUP_KEY = b"bulkembed.group"
"""In the footer of a part of a group: its record, from which a lost one is rebuilt."""
_COUNTS = tuple(field.name for field in dataclasses.fields(CallCounts))
_OF_MEDIA = ("image_tokens", "audio_tokens", "video_tokens")
"""Counts that are written only if a unit has media."""
_OF_UNIT = ("embedded", "dead", "skipped", "removed", "vectors")


@dataclasses.dataclass(frozen=True, slots=True)
class _GroupFile:
    """The content of a group's record: a list for each field, with an entry for each unit."""

    version: int
    key: str
    generation: Count
    run_id: str
    run_number: Count
    embedding_digest: str
    part_bytes: Count
    files: list[tuple[str, str]]
    """The key and the name of each input file."""
    runs: list[str]
    """The runs that committed the units."""
    file: list[Count]
    """The place in `files` for each unit."""
    run: list[Count]
    """The place in `runs`."""
    first_row: list[Count]
    rows: list[Count]
    embedded: list[Count]
    dead: list[Count]
    skipped: list[Count]
    removed: list[Count]
    vectors: list[Count]
    seconds: list[float]
    calls: list[int]
    retried: list[int]
    texts: list[int]
    tokens: list[int]
    repeated: list[int]
    reused: list[int]
    codes: dict[str, dict[DeadCode, Count]]
    """Dead letters by code, of units that have some; the keys are numbers of units."""
    partitions: list[str] = dataclasses.field(default_factory=list)
    """The folders of the partitions, if there are any."""
    in_partitions: list[list[tuple[Count, Count]]] = dataclasses.field(default_factory=list)
    """For each unit the places of its folders in `partitions`, each with the rows in it."""
    image_tokens: list[int] = dataclasses.field(default_factory=list)
    audio_tokens: list[int] = dataclasses.field(default_factory=list)
    video_tokens: list[int] = dataclasses.field(default_factory=list)


def group_key(units: Iterable[Unit], run_number: int) -> str:
    """Return the key of a new group: 16 hexadecimal digits."""
    names = (f"{unit.file_key} {unit.first_row} {unit.rows}" for unit in units)
    text = "\n".join((str(run_number), *names))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def with_members(group: GroupRecord, members: Sequence[UnitRecord]) -> GroupRecord:
    """Return a group with its units, each at its place in the group's parts.

    Args:
        group: everything about the group except its units.
        members: the records of the units in the order of their rows, from wherever they are now.
    """
    short = part_name(group)
    name = record_name(dataclasses.replace(group, members=tuple(members)))
    placed = []
    written: collections.Counter[str] = collections.Counter()
    first_dead = 0
    for member in members:
        lost = member.dead + member.skipped
        rows_of = {in_partition(at, short): rows for at, rows in rows_by_partition(member).items()}
        placed.append(
            dataclasses.replace(
                member.in_parts(rows_of),
                generation=group.generation,
                run_number=group.run_number,
                embedding_digest=group.embedding_digest,
                dead_part=short if lost else None,
                part_bytes=None,
                place=GroupPlace(name, tuple(written[part] for part in rows_of), first_dead),
            )
        )
        written.update(rows_of)
        first_dead += lost
    return dataclasses.replace(group, members=tuple(placed))


def rows_by_partition(record: UnitRecord) -> dict[str, int]:
    """Return the rows with vectors of a unit by the folder of their partition, ordered by it.

    The folder of a unit that is not partitioned is empty.
    """
    if not record.is_partitioned:
        return {"": record.vectors} if record.vectors else {}
    found: collections.Counter[str] = collections.Counter()
    for part, rows in zip(record.vector_parts, record.part_rows, strict=True):
        found[partition_of(part)] += rows
    return dict(sorted(found.items()))


def encode_group(group: GroupRecord) -> bytes:
    """Return the record of a group as JSON."""
    members = group.members
    files = {member.unit.file_key: member.source_file for member in members}
    runs = dict.fromkeys(member.run_id for member in members)
    file_at = {key: at for at, key in enumerate(files)}
    run_at = {run: at for at, run in enumerate(runs)}
    content: dict[str, Any] = {
        "version": 1,
        **{
            field.name: getattr(group, field.name)
            for field in dataclasses.fields(GroupRecord)
            if field.name != "members"
        },
        "files": list(files.items()),
        "runs": list(runs),
        "file": [file_at[member.unit.file_key] for member in members],
        "run": [run_at[member.run_id] for member in members],
        "first_row": [member.unit.first_row for member in members],
        "rows": [member.unit.rows for member in members],
        "seconds": [round(member.seconds, 3) for member in members],
        "codes": {
            str(at): to_plain(dict(member.codes))
            for at, member in enumerate(members)
            if member.codes
        },
    }
    content |= {name: [getattr(member, name) for member in members] for name in _OF_UNIT}
    counts = {name: [getattr(member.counts, name) for member in members] for name in _COUNTS}
    content |= {name: n for name, n in counts.items() if name not in _OF_MEDIA or any(n)}
    if members and members[0].is_partitioned:
        rows_of = [rows_by_partition(member) for member in members]
        folder_at = {one: at for at, one in enumerate(sorted({*itertools.chain(*rows_of)}))}
        content["partitions"] = list(folder_at)
        content["in_partitions"] = [
            [(folder_at[folder], rows) for folder, rows in of_unit.items()] for of_unit in rows_of
        ]
    return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)


def decode_group(data: bytes, name: str) -> GroupRecord:
    """Return the group that JSON describes.

    Raises:
        OutputError: the file is damaged, of another version, or contradicts its name.
    """
    try:
        group = _decoded(data)
        if record_name(group) != name:
            raise ValueError("its content contradicts its name")
    except (ValueError, TypeError, IndexError) as error:
        raise OutputError(f"_run/units/{name} is damaged ({error}). {REPAIR}") from None
    return group


def to_footer(group: GroupRecord) -> dict[bytes, bytes]:
    """Return the record of a group as metadata of its parts; their size is not known yet."""
    return {GROUP_KEY: base64.b64encode(zlib.compress(encode_group(group)))}


def from_footer(metadata: dict[bytes, bytes]) -> GroupRecord | None:
    """Return the group that the metadata of a part describes; None if it does not."""
    try:
        return _decoded(zlib.decompress(base64.b64decode(metadata[GROUP_KEY])))
    except (KeyError, ValueError, TypeError, IndexError, zlib.error):
        return None


def _decoded(data: bytes) -> GroupRecord:
    content = from_plain(orjson.loads(data), _GroupFile)
    group = GroupRecord(
        content.key, (), content.generation, content.run_id, content.run_number,
        content.embedding_digest, content.part_bytes,
    )  # fmt: skip
    found = {name: getattr(content, name) for name in (*_OF_UNIT, "seconds", *_COUNTS)}
    nothing = [0] * len(content.file)
    columns = [n if n or name not in _OF_MEDIA else nothing for name, n in found.items()]
    members = []
    for at, (file, run, first, rows, *facts) in enumerate(
        zip(content.file, content.run, content.first_row, content.rows, *columns, strict=True)
    ):
        key, source_file = content.files[file]
        own = dict(zip(_OF_UNIT, facts, strict=False))
        member = UnitRecord(
            Unit(key, first, rows),
            **own,
            source_file=source_file,
            run_id=content.runs[run],
            codes=tuple(sorted(content.codes.get(str(at), {}).items())),
            counts=CallCounts(*facts[len(_OF_UNIT) + 1 :]),
            seconds=facts[len(_OF_UNIT)],
            is_partitioned=bool(content.in_partitions),
        )
        if content.in_partitions:
            places = content.in_partitions[at]
            # `with_members` gives the parts their names.
            member = member.in_parts({f"{content.partitions[p]}/": rows for p, rows in places})
            if sum(member.part_rows) != member.vectors:
                raise ValueError("the rows of its partitions do not add up")
        members.append(member)
    if not members:
        raise ValueError("it has no units")
    if any(a.unit == b.unit for a, b in itertools.pairwise(members)):
        raise ValueError("a unit occurs twice")
    return with_members(group, members)
