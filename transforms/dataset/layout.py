"""The names of the files and folders of a dataset."""

from __future__ import annotations

import re

from bulkembed.schemas.units import GroupRecord, PartsRecord, Unit, UnitRecord

VECTORS = "vectors"
DEAD_LETTERS = "dead_letters"
RUN = "_run"
"""Everything but the parts."""
UNITS = "_run/units"
"""The commit records."""
PLAN = "_run/plan"
SUMMARIES = "_run/summaries"
STOPS = "_run/stops"
DAMAGED = "_run/damaged"
KEPT = "_run/spill"
"""Answers of units that are not committed yet."""
SHARED = "_run/shared"
"""Vectors of texts that several units share, until the dataset is complete."""
INDEX = "_run/index"
"""The index of text hashes, which can be built again from the parts."""
STAGED = "_run/staged"
"""Rows of the input that a synchronisation has to embed, until it is complete."""
COMPARED = "_run/compared"
"""What the workers of a cluster find out for a synchronisation, until the launcher has read it."""
SYNC = "_run/sync.json"
"""What the last synchronisation found; see `sync_file`."""
REFUSAL = "_run/refusal.json"
"""Why the last run refused to start; see `pipeline.run.refusal`."""
BATCH = "_run/batch"
"""The ledger of batch jobs, and their answers until these are committed."""
GATHER = "_run/gather"
"""Known vectors that a run has collected, ordered by unit, and the lists of what to collect."""
TIMELINE = "_run/timeline"
CHANGES = "_run/changes"
"""The change feeds, one for each complete run that changed rows."""
MANIFEST = "_run/manifest.json"
IDS = "_run/ids"
"""The index of the ids of the last complete state."""
RUN_FILE = "_run/run.json"
LOCK = "_run/lock.json"
CLAIMS = "_run/claims"
ACCOUNT = "_run/account.json"
SPENDING = "_run/spending"
"""What was paid by processes that do not share the account."""
SUCCESS = "_SUCCESS"
REPORT = "_run/report.html"
"""Below `_run`, because readers of Parquet fail if their folder contains a page."""
OLD_REPORT = "report.html"
"""Where earlier versions wrote the report."""
REPORT_MARK = b" - bulkembed report</title>"

TEMP_PREFIX = ".tmp-"
"""Begins the name of a file that is not complete yet; such a file never counts."""
PART_SUFFIX = ".parquet"
"""Ends the name of a part; `part_files` is the code that knows Parquet."""
EMPTY_PART = f"empty{PART_SUFFIX}"
"""A part without rows, in `vectors/` if there is no vector, so that readers find the schema."""
KEPT_SUFFIX = ".spill"
SEGMENT_SUFFIX = ".segment"
"""Ends the name of a file of the index of text hashes."""

_PARTITION = r"(?:[^/=]+=[^/]*/)?"
"""The folder of a part of a partitioned dataset, as in `lang=de/part-....parquet`."""
_PART = re.compile(
    _PARTITION
    + r"part-([0-9a-f]{16})-(\d{12})-(\d{8})(?:-g(\d+))?(?:-n(\d+))?"
    + re.escape(PART_SUFFIX)
)
_GROUP_PART = re.compile(
    _PARTITION + r"group-([0-9a-f]{16})-n(\d+)(?:-g(\d+))?" + re.escape(PART_SUFFIX)
)
_KEPT = re.compile(r"([0-9a-f]{16})-(\d{12})-(\d{8})-g(\d+)-.+\.spill")
_RECORD = re.compile(
    r"(?P<key>[0-9a-f]{16})-(?P<first>\d{12})-(?P<rows>\d{8})"
    r"-e(?P<embedded>\d+)-d(?P<dead>\d+)-s(?P<skipped>\d+)(?:-r(?P<removed>\d+))?"
    r"-g(?P<generation>\d+)(?P<partitioned>-p)?"
    r"(?:-b(?P<part_bytes>\d+))?(?:-n(?P<run_number>\d+)-v(?P<digest>[0-9a-f]{16}))?\.json"
)

_GROUP = re.compile(r"group-([0-9a-f]{16})-m\d+-e\d+-l\d+-g(\d+)-b\d+-n(\d+)-v[0-9a-f]{16}\.json")


def part_name(record: PartsRecord) -> str:
    """Return the name of the parts that the commit of a record writes, without their folders.

    A second attempt of the same run has the same name, so it overwrites the first. The name holds
    the number of the run, so that a late writer of an earlier run overwrites nothing.
    """
    if isinstance(record, GroupRecord):
        copy = f"-g{record.generation}" if record.generation else ""
        return f"group-{record.key}-n{record.run_number}{copy}{PART_SUFFIX}"
    return (
        f"{part_stem(record.unit)}"
        f"{f'-g{record.generation}' if record.generation else ''}"
        f"{f'-n{record.run_number}' if record.run_number else ''}{PART_SUFFIX}"
    )


def part_stem(unit: Unit) -> str:
    """Return the beginning of the names of all parts of a unit."""
    return f"part-{unit.file_key}-{unit.first_row:012d}-{unit.rows:08d}"


def partition_of(part: str) -> str:
    """Return the folder of a part's partition, such as `lang=de`; empty if it is in none.

    The name may be that within the dataset or within `vectors/`.
    """
    folder = part.rpartition("/")[0].rpartition("/")[2]
    return folder if "=" in folder else ""


def in_partition(folder: str, name: str) -> str:
    """Return the name within `vectors/` of a part; for an empty folder the name itself."""
    return f"{folder}/{name}" if folder else name


def short_name(name: str) -> str:
    """Return the name of a file without its folders."""
    return name.rpartition("/")[2]


def is_part_name(name: str) -> bool:
    """Return whether a file has a name that `part_name` gives, in the folder of a partition or not.

    The name is that within `vectors/` or `dead_letters/`; the other functions take it as well.
    """
    return _PART.fullmatch(name) is not None or is_group_part(name)


def is_group_part(name: str) -> bool:
    """Return whether a file has the name of a part of a group."""
    return _GROUP_PART.fullmatch(name) is not None


def unit_of_part(name: str) -> Unit:
    """Return the unit in the name of a part.

    Raises:
        ValueError: it is not the name of a part of a single unit.
    """
    found = _PART.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is not the name of a part")
    return Unit(found[1], int(found[2]), int(found[3]))


def age_of_part(name: str) -> tuple[int, int]:
    """Return the run number and the generation of a part, 0 if its name has none.

    Raises:
        ValueError: it is not the name of a part.
    """
    short = short_name(name)
    merged = _GROUP_PART.fullmatch(short)
    if merged is not None:
        return int(merged[2]), int(merged[3] or 0)
    found = _PART.fullmatch(short)
    if found is None:
        raise ValueError(f"{name!r} is not the name of a part")
    return int(found[5] or 0), int(found[4] or 0)


def record_name(record: PartsRecord) -> str:
    """Return the name of the file that holds a record; for a unit of a group, that of the group.

    It has the rows that the record covers, its counts, its generation, whether it is partitioned,
    the bytes of its parts, the number of the run that wrote it and the embedding digest.
    """
    if isinstance(record, GroupRecord):
        return _group_name(record)
    if record.place is not None:
        return record.place.record
    unit = record.unit
    size = "" if record.part_bytes is None else f"-b{record.part_bytes}"
    digest = record.embedding_digest
    made_by = f"-n{record.run_number}-v{digest}" if digest else ""
    removed = f"-r{record.removed}" if record.removed else ""
    partitioned = "-p" if record.is_partitioned else ""
    return (
        f"{unit.file_key}-{unit.first_row:012d}-{unit.rows:08d}"
        f"-e{record.embedded}-d{record.dead}-s{record.skipped}{removed}"
        f"-g{record.generation}{partitioned}{size}{made_by}.json"
    )


def parse_record_name(name: str) -> UnitRecord | None:
    """Return as much of a record as its name has; None for the name of another file.

    Raises:
        ValueError: the numbers in the name contradict each other.
    """
    found = _RECORD.fullmatch(name)
    if found is None:
        return None
    size = found["part_bytes"]
    return UnitRecord(
        Unit(found["key"], int(found["first"]), int(found["rows"])),
        int(found["embedded"]),
        int(found["dead"]),
        int(found["skipped"]),
        int(found["generation"]),
        part_bytes=None if size is None else int(size),
        run_number=int(found["run_number"] or 0),
        embedding_digest=found["digest"] or "",
        removed=int(found["removed"] or 0),
        is_partitioned=found["partitioned"] is not None,
    )


def _group_name(group: GroupRecord) -> str:
    embedded = sum(member.embedded for member in group.members)
    lost = sum(member.dead + member.skipped for member in group.members)
    return (
        f"group-{group.key}-m{len(group.members)}-e{embedded}-l{lost}-g{group.generation}"
        f"-b{group.part_bytes}-n{group.run_number}-v{group.embedding_digest}.json"
    )


def part_of_group(name: str) -> str | None:
    """Return the name of the parts of a group by the name of its record; None for another file."""
    found = _GROUP.fullmatch(name)
    if found is None:
        return None
    key, generation, number = found.groups()
    return part_name(GroupRecord(key, (), int(generation), run_number=int(number)))


def is_group_name(name: str) -> bool:
    """Return whether a file has the name of the record of a group."""
    return _GROUP.fullmatch(name) is not None


def run_number_in(name: str) -> int:
    """Return the run number in the name of a record, complete or not; 0 if it has none."""
    found = re.search(r"-n(\d+)-v", name)
    return int(found[1]) if found else 0


def kept_name(unit: Unit, generation: int, run_id: str) -> str:
    """Return the name of the file of a unit's kept answers; its record will have `generation`."""
    return f"{unit.file_key}-{unit.first_row:012d}-{unit.rows:08d}-g{generation}-{run_id}.spill"


def parse_kept_name(name: str) -> tuple[Unit, int] | None:
    """Return the unit and generation of a file of kept answers; None for another file."""
    found = _KEPT.fullmatch(name)
    return (Unit(found[1], int(found[2]), int(found[3])), int(found[4])) if found else None


def is_unfinished(name: str) -> bool:
    """Return whether a file was being written when its writer was killed."""
    return short_name(name).startswith(TEMP_PREFIX)
