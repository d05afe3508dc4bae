"""Remove rows of committed units: write copies of their parts without them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.job import RunStamp, VectorEncoding
from bulkembed.schemas.output_schema import REMOVED_KEY
from bulkembed.schemas.units import GroupRecord, PartSpan, PartsRecord, Unit, UnitRecord
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.atomic_files import OwnershipCheck
from bulkembed.transforms.dataset.commit import write_committed
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.groups import to_footer, with_members
from bulkembed.transforms.dataset.layout import (
    DEAD_LETTERS,
    UNITS,
    VECTORS,
    in_partition,
    part_name,
    partition_of,
    record_name,
)
from bulkembed.transforms.dataset.records import DatasetState, RecordParts

RowNumbers = npt.NDArray[np.int64]
"""Rows of the parts of a record in one folder, counted from 0 over these parts in their order."""
Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The rows of the parts of a record in one folder."""

    parts: tuple[str, ...]
    sizes: tuple[int, ...]
    """The rows of each part."""
    opened: Mapping[str, part_files.OpenPart]
    """The parts by their names."""
    stays: Mask
    """For each row whether it stays."""
    begins: Mask
    """Whether it is the first or only row of an input row."""
    codes: npt.NDArray[np.object_]
    """The code of each dead letter that stays."""

    @property
    def is_whole(self) -> bool:
        """Whether all rows stay."""
        return bool(self.stays.all())

    @property
    def count(self) -> int:
        """How many rows stay."""
        return int(np.count_nonzero(self.stays))

    def firsts(self) -> dict[str, int]:
        """Return the number of the first row of each part."""
        return dict(zip(self.parts, np.cumsum([0, *self.sizes]).tolist(), strict=False))

    def of_spans(self, spans: Iterable[PartSpan]) -> _Rows:
        """Return some consecutive rows of some parts, by their names in the dataset."""
        firsts, wanted = self.firsts(), list(spans)
        slices = [slice(firsts[n] + first, firsts[n] + first + rows) for n, first, rows in wanted]
        stays, begins, codes = (
            np.concatenate([values[:0], *(values[span] for span in slices)])
            for values in (self.stays, self.begins, self.codes)
        )
        sizes = tuple(span.rows for span in wanted)
        names = tuple(span.name for span in wanted)
        return _Rows(names, sizes, self.opened, stays, begins, codes)

    def by_partition(self) -> dict[str, _Rows]:
        """Return the rows of the parts of each partition, ordered by its folder."""
        spans = collections.defaultdict(list)
        for name, rows in zip(self.parts, self.sizes, strict=True):
            spans[partition_of(name)].append(PartSpan(name, 0, rows))
        return {folder: self.of_spans(spans[folder]) for folder in sorted(spans)}


def replace_rows(
    dataset: Dataset,
    run: RunStamp,
    record: PartsRecord,
    drop_vectors: RowNumbers,
    drop_dead: RowNumbers,
    check_ownership: OwnershipCheck | None = None,
    *,
    drop_units: Collection[Unit] = (),
    keeps_old: bool = False,
) -> PartsRecord | None:
    """Write copies of the parts of a record without some rows, and commit them.

    Row groups without a row that stays are not read.

    The copies are written before the record that names them, and the old record and parts are
    deleted last, so a killed process leaves the old rows or the new ones.

    Args:
        dataset: the dataset.
        run: the run that removes the rows.
        record: a record that has parts of its own, as in `DatasetState.parts_records`.
        drop_vectors: rows of its vector parts to remove; all passages of an input row, or none.
        drop_dead: rows of its dead letters to remove.
        check_ownership: as in `commit_unit`.
        drop_units: units of a group to remove completely: their rows are no longer committed.
        keeps_old: whether the old record, which does not count any more, and its parts stay.

    Returns:
        The new record, of the next generation. The same record if there is nothing to remove.
        None if no row is left: then the record is withdrawn.

    Raises:
        OutputError: a part cannot be read or written; the old record still counts.
        OutputTaken: another run has taken over the dataset.
    """
    if isinstance(record, UnitRecord):
        record = dataset.read_record(record)
    if not len(drop_vectors) and not len(drop_dead) and not drop_units:
        return record
    parts = RecordParts.of(record)
    gone = frozenset(drop_units)
    vectors = _rows(dataset, parts.vectors, drop_vectors, [*_vectors_of(record, gone)])
    dead = _rows(dataset, parts.dead_letters, drop_dead, [*_dead_letters_of(record, gone)])
    made = _committed(dataset, run, record, vectors, dead, gone)
    if made is None:
        if check_ownership is not None:
            check_ownership()
        dataset.withdraw([record])
        return None
    write_committed(dataset, made, check_ownership)
    if not keeps_old:
        unnamed = set(parts.all).difference(RecordParts.of(made).all)
        dataset.delete([f"{UNITS}/{record_name(record)}"])
        dataset.delete_parts(sorted(unnamed))
    return made


def withdraw_units(
    dataset: Dataset,
    run: RunStamp,
    state: DatasetState,
    records: Iterable[UnitRecord],
    check_ownership: OwnershipCheck | None = None,
) -> None:
    """Delete committed units; groups are written again without those that they have.

    Raises:
        OutputError, OutputTaken: see `replace_rows`.
    """
    by_name = collections.defaultdict(set)
    for record in records:
        if record.place is None:
            dataset.withdraw([record])
        else:
            by_name[record.place.record].add(record.unit)
    none = np.empty(0, np.int64)
    for group in state.groups:
        units = by_name.get(record_name(group))
        if units:
            replace_rows(dataset, run, group, none, none, check_ownership, drop_units=units)


def withdraw_replaced(
    dataset: Dataset,
    run: RunStamp,
    state: DatasetState,
    check_ownership: OwnershipCheck | None = None,
) -> bool:
    """Write groups again without units whose rows another record covers; return if there were any.

    Two workers with the same slice can commit groups of which only some units are the same.

    Raises:
        OutputError, OutputTaken: see `replace_rows`.
    """
    none = np.empty(0, np.int64)
    found = list(state.replaced_units())
    for group, units in found:
        replace_rows(dataset, run, group, none, none, check_ownership, drop_units=units)
    return bool(found)


def _vectors_of(record: PartsRecord, units: frozenset[Unit]) -> Iterator[PartSpan]:
    """Yield where the vectors of some units of a group are."""
    for member in record.members if isinstance(record, GroupRecord) else ():
        if member.unit in units:
            yield from _vectors_of_unit(member)


def _vectors_of_unit(member: UnitRecord) -> Iterator[PartSpan]:
    for span in member.spans():
        yield span._replace(name=f"{VECTORS}/{span.name}")


def _dead_letters_of(record: PartsRecord, units: frozenset[Unit]) -> Iterator[PartSpan]:
    """Yield where the dead letters of some units of a group are."""
    for member in record.members if isinstance(record, GroupRecord) else ():
        if member.unit in units:
            yield from _dead_letters_of_unit(member)


def _dead_letters_of_unit(member: UnitRecord) -> Iterator[PartSpan]:
    lost = member.dead + member.skipped
    if lost and member.place is not None:
        yield PartSpan(f"{DEAD_LETTERS}/{member.dead_part}", member.place.first_dead, lost)


def _rows(
    dataset: Dataset, parts: tuple[str, ...], drop: RowNumbers, gone: Iterable[PartSpan]
) -> _Rows:
    """Return which rows stay; only small columns are read, and no row group that goes."""
    opened = {name: part_files.open_sized_part(dataset, name, None) for name in parts}
    sizes = tuple(opened[name].metadata.num_rows for name in parts)
    stays = np.ones(sum(sizes), bool)
    within = drop[(drop >= 0) & (drop < len(stays))]
    stays[within] = False
    if len(stays) - np.count_nonzero(stays) != len(drop):
        raise ValueError(f"not distinct rows of {', '.join(parts) or 'a missing part'}: {drop}")
    begins, codes = np.ones(len(stays), bool), np.full(len(stays), "", object)
    firsts = _Rows(parts, sizes, opened, stays, begins, codes).firsts()
    for one in gone:
        stays[firsts[one.name] + one.first_row :][: one.rows] = False
    first = 0
    for name in parts:
        part = opened[name]
        column = None
        if name.startswith(f"{DEAD_LETTERS}/"):
            column = "code"
        elif part_files.holds_passages(part.schema_arrow):
            column = "passage"
        for number, span in _row_groups_that_stay(part, stays, first) if column else ():
            values = part_files.read_row_group(part, name, number, [str(column)])[column]
            if column == "code":
                codes[span] = values.to_numpy()
            else:
                begins[span] = values.to_numpy() == 0
        first += part.metadata.num_rows
    return _Rows(parts, sizes, opened, stays, begins, codes)


def _row_groups_that_stay(
    part: part_files.OpenPart, stays: Mask, first: int
) -> Iterator[tuple[int, slice]]:
    """Yield the row groups of a part of which a row stays, each with its place in the mask."""
    for number in range(part.num_row_groups):
        span = slice(first, first + part.metadata.row_group(number).num_rows)
        first = span.stop
        if stays[span].any():
            yield number, span


def _committed(
    dataset: Dataset,
    run: RunStamp,
    record: PartsRecord,
    vectors: _Rows,
    dead: _Rows,
    drop_units: frozenset[Unit],
) -> PartsRecord | None:
    """Write the copies, and return the record that is to be written; None if no row is left."""
    if isinstance(record, UnitRecord):
        unit = _unit_after(run, record, vectors, dead)
        return None if unit is None else _unit_copies(dataset, run, unit, vectors, dead)
    members = []
    for member in record.members:
        of_vectors = vectors.of_spans(_vectors_of_unit(member))
        of_dead = dead.of_spans(_dead_letters_of_unit(member))
        after = None
        if member.unit not in drop_units:
            after = _unit_after(run, member, of_vectors, of_dead)
        if after is not None:
            members.append(after)
    if not members:
        return None
    stamped = dataclasses.replace(
        record,
        generation=record.generation + 1,
        run_id=run.run_id,
        run_number=run.run_number,
        embedding_digest=run.embedding_digest,
        part_bytes=0,
    )
    group = with_members(stamped, members)
    footer = to_footer(group)
    size = 0
    by_partition = vectors.by_partition()
    for part in RecordParts.of(group).all:
        rows = by_partition[partition_of(part)] if part.startswith(f"{VECTORS}/") else dead
        size += _write_copy(dataset, run, part, rows, footer)
    return with_members(dataclasses.replace(group, part_bytes=size), members)


def _unit_after(
    run: RunStamp, record: UnitRecord, vectors: _Rows, dead: _Rows
) -> UnitRecord | None:
    """Return the record of a unit without the removed rows; None if it has no other row."""
    if vectors.is_whole and dead.is_whole and record.place is not None:
        return record  # The rows of another unit of its group are removed.
    if not vectors.count and not dead.count:
        return None
    embedded = int(np.count_nonzero(vectors.stays & vectors.begins))
    codes = collections.Counter(DeadCode(code) for code in dead.codes[dead.stays])
    skipped = sum(rows for code, rows in codes.items() if code.is_skip)
    left = {name: one.count for name, one in vectors.by_partition().items() if one.count}
    return dataclasses.replace(
        # The commit gives the parts their names.
        record.in_parts({f"{folder}/": rows for folder, rows in left.items()}),
        embedded=embedded,
        dead=dead.count - skipped,
        skipped=skipped,
        generation=record.generation + 1,
        run_id=run.run_id,
        codes=tuple(sorted(codes.items())),
        vectors=vectors.count,
        run_number=run.run_number,
        embedding_digest=run.embedding_digest,
        removed=record.unit.rows - embedded - dead.count,
    )


def _unit_copies(
    dataset: Dataset, run: RunStamp, record: UnitRecord, vectors: _Rows, dead: _Rows
) -> UnitRecord:
    """Write the parts of a unit of which a row is removed; those of other partitions stay."""
    name = part_name(record)
    footer = {REMOVED_KEY.encode(): str(record.removed).encode()}
    rows_of: dict[str, int] = {}
    for folder, rows in vectors.by_partition().items():
        copy = in_partition(folder, name)
        if rows.is_whole:
            kept = (part.removeprefix(f"{VECTORS}/") for part in rows.parts)
            rows_of |= dict(zip(kept, rows.sizes, strict=True))
        elif rows.count:
            _write_copy(dataset, run, f"{VECTORS}/{copy}", rows, footer)
            rows_of[copy] = rows.count
    record = record.in_parts(rows_of)
    if not dead.is_whole:
        record = dataclasses.replace(record, dead_part=name if dead.count else None)
        if dead.count:
            _write_copy(dataset, run, f"{DEAD_LETTERS}/{name}", dead, footer)
    size = dataset.size_of(RecordParts.of(record).all)
    return dataclasses.replace(record, part_bytes=size)


def _write_copy(
    dataset: Dataset, run: RunStamp, name: str, rows: _Rows, footer: dict[bytes, bytes]
) -> int:
    """Write the rows that stay as one part; return its size."""
    source = rows.opened[rows.parts[0]].schema_arrow
    schema = source.with_metadata({**(source.metadata or {}), **footer})
    has_vectors = name.startswith(f"{VECTORS}/")
    encoding = run.vector_encoding if has_vectors else VectorEncoding.PLAIN

    def write(stream: pa.NativeFile) -> None:
        part_files.write_row_groups(stream, _rows_that_stay(rows), schema, encoding)

    return dataset.write_large(name, write)


def _rows_that_stay(rows: _Rows) -> Iterator[pa.RecordBatch]:
    first = 0
    for name in rows.parts:
        part = rows.opened[name]
        for number, span in _row_groups_that_stay(part, rows.stays, first):
            at = span.start
            for block in part_files.read_blocks(part, name, row_groups=[number]):
                here = rows.stays[at : at + block.num_rows]
                at += block.num_rows
                yield block if here.all() else block.filter(pa.array(here))
        first += part.metadata.num_rows
