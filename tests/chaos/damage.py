"""Damage to an output: which files change, and what it may cost."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable

import pyarrow.parquet as pq

from chaos.history import Damage, Harm
from chaos.model import Snapshot

GARBAGE = b"\x00\xffgarbage{" * 7


@dataclasses.dataclass(frozen=True)
class Damaged:
    """What a damage comes to."""

    changed: dict[str, bytes | None]
    """New contents; None: deleted."""
    lost_parts: tuple[str, ...] = ()
    """Parts whose rows may be paid for again."""
    about: tuple[str, ...] = ()
    """Parts whose rows are lost."""
    lost_answers: bool = False
    """Whether kept answers may be lost."""
    rejected: bool = False
    """Whether nothing may be done before it is put back."""
    found_by_verify: bool = False
    """Whether only `verify` must see it: a run does not open parts and records."""


def apply(damage: Damage, present: Snapshot) -> Damaged | None:
    """What becomes of an output; None where there is nothing of the kind to damage."""
    harm = damage.harm
    if harm is Harm.RUN_GONE:
        names = [name for name in present if name.startswith("_run/")]
        return Damaged(dict.fromkeys(names), rejected=True)
    if harm is Harm.STRAY:
        if "_SUCCESS" in present:
            return None  # Then a run has nothing to do, and cleans up nothing.
        return Damaged({"_run/units/.tmp-123-x.json": b""})
    if harm is Harm.LOCK_GARBAGE:
        return Damaged({"_run/lock.json": GARBAGE})
    names = _files(harm, present)
    if not names:
        return None
    name = names[damage.pick % len(names)]
    damaged = _damaged(damage, name, present)
    about = tuple(part for part in {*damaged.lost_parts, name} if part.endswith(".parquet"))
    return dataclasses.replace(damaged, about=about)


def files_of(parts: Iterable[str], present: Snapshot) -> set[str]:
    """The input files whose rows some parts hold; `""` for a part that cannot be read."""
    found: set[str] = set()
    for part in parts:
        try:
            table = pq.read_table(io.BytesIO(present[part]), columns=["source_file"])
        except (OSError, ValueError):
            found.add("")
        else:
            found.update(table["source_file"].to_pylist())
    return found


def _damaged(damage: Damage, name: str, present: Snapshot) -> Damaged:
    data = present[name]
    parts = _parts_like(name, present)
    half = data[: len(data) // 2]
    match damage.harm:
        case Harm.SCANS_GARBAGE | Harm.ACCOUNT_GARBAGE:
            return Damaged({name: GARBAGE})
        case Harm.SCANS_CUT:
            return Damaged({name: half})
        case Harm.SCANS_GONE:
            return Damaged({name: None})
        case Harm.RECORD_CUT:
            return Damaged({name: half}, parts, found_by_verify=True)
        case Harm.RECORD_EMPTY:
            return Damaged({name: b""}, parts)
        case Harm.RECORD_GONE:
            return Damaged({name: None}, parts)
        case Harm.PART_CUT:
            return Damaged({name: half}, parts)
        case Harm.PART_GONE | Harm.DEAD_GONE:
            return Damaged({name: None}, parts)
        case Harm.PART_FLIPPED:
            return Damaged({name: _flipped(data, damage.pick)}, parts, found_by_verify=True)
        case Harm.SPILL_CUT:
            return Damaged({name: half}, lost_answers=True)
        case Harm.SPILL_GARBAGE:
            return Damaged({name: GARBAGE}, lost_answers=True)
        case Harm.RUN_FILE_GONE:
            return Damaged({name: None}, rejected=True)
        case Harm.RUN_FILE_GARBAGE:
            return Damaged({name: GARBAGE}, rejected=True)
        case _:
            raise ValueError(damage.harm)


def _files(harm: Harm, present: Snapshot) -> list[str]:
    """The files that this may happen to."""
    begins: dict[Harm, str | tuple[str, ...]] = {
        Harm.SCANS_GARBAGE: "_run/plan/files.jsonl",
        Harm.SCANS_CUT: "_run/plan/files.jsonl",
        Harm.SCANS_GONE: "_run/plan/files.jsonl",
        Harm.RECORD_CUT: "_run/units/",
        Harm.RECORD_EMPTY: "_run/units/",
        Harm.RECORD_GONE: "_run/units/",
        Harm.PART_CUT: ("vectors/part-", "vectors/group-"),
        Harm.PART_GONE: ("vectors/part-", "vectors/group-"),
        Harm.PART_FLIPPED: ("vectors/part-", "vectors/group-"),
        Harm.DEAD_GONE: ("dead_letters/part-", "dead_letters/group-"),
        Harm.SPILL_CUT: ("_run/spill/", "_run/shared/"),
        Harm.SPILL_GARBAGE: ("_run/spill/", "_run/shared/"),
        Harm.RUN_FILE_GONE: "_run/run.json",
        Harm.RUN_FILE_GARBAGE: "_run/run.json",
        Harm.ACCOUNT_GARBAGE: "_run/account.json",
    }
    return sorted(name for name in present if name.startswith(begins[harm]))


def _parts_like(name: str, present: Snapshot) -> tuple[str, ...]:
    """The parts with vectors of the rows that a record or a part is about.

    Names begin with the file's key, the first row and the number of rows, or with a group's key.
    """
    base = name.rpartition("/")[2]
    if base.startswith("group-"):
        group = "-".join(base.split("-")[:2])
        return tuple(part for part in present if part.startswith(f"vectors/{group}"))
    unit = "-".join(name.rpartition("/")[2].removeprefix("part-").split(".")[0].split("-")[:3])
    return tuple(part for part in present if part.startswith(f"vectors/part-{unit}"))


def _flipped(data: bytes, pick: int) -> bytes:
    """One bit of the numbers of a part's vectors is another."""
    group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0)
    columns = [group.column(n) for n in range(group.num_columns)]
    column = next(c for c in columns if c.path_in_schema.startswith("vector."))
    start = column.data_page_offset + column.total_compressed_size // 2
    at = start + pick
    return data[:at] + bytes([data[at] ^ 1 << pick % 8]) + data[at + 1 :]
