"""A unit's parts and record, checked against the dataset's settings and against each other."""

from __future__ import annotations

import collections
import dataclasses
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.findings import Check, Finding
from bulkembed.schemas.job import VectorType
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.output_schema import (
    ID_KEY,
    dead_letters_schema,
    part_metadata,
    vectors_schema,
)
from bulkembed.schemas.units import GroupRecord, PartsRecord, UnitRecord
from bulkembed.transforms.core.vectors import vector_faults
from bulkembed.transforms.dataset import part_files, partitions
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.duplicate_ids import DuplicateIds
from bulkembed.transforms.dataset.layout import UNITS, VECTORS, partition_of, record_name
from bulkembed.transforms.dataset.records import RecordParts
from bulkembed.transforms.dataset.run_file import id_name_of, is_synced

Rows = npt.NDArray[np.int64]

NORMALIZED_TOLERANCE = 1e-4
"""Allowed difference from length 1 of a float32 vector that bulkembed has normalized."""
ROUNDED_TOLERANCE = 1e-3
"""The same for float16 vectors, and for vectors as the service returns them."""
_VERSION_KEY = "bulkembed.version"
_LIST_FIELD = re.compile(r"list<\w+: ")
_MAP_NAME = re.compile(r" \('[^']*'\)>")
_NO_ROWS = pa.schema([("id", pa.null())])
_PROBLEMS = {
    Check.NOT_FINITE: ("vector", "with NaN or infinity"),
    Check.ZERO_VECTOR: ("vector", "of zeros"),
    Check.UNIT_LENGTH: ("vector", "without unit length"),
    Check.ROWS: ("row", "of another unit"),
    Check.PASSAGE: ("passage", "out of order"),
}
"""What a finding says about values of a part: what they are, and what is wrong with them."""


@dataclasses.dataclass(frozen=True, slots=True)
class PartKind:
    """Columns, types and footer of the parts in one folder; `has_vectors` for `vectors/`."""

    types: dict[str, str]
    """Type of each column as Arrow writes it, in order."""
    metadata: dict[str, str]
    has_vectors: bool
    tolerance: float | None = None
    """Allowed difference of a vector's length from 1; None if lengths are not checked."""
    names_sources: bool = False
    """Whether each row says which file it comes from, as in a synchronised dataset. Else all rows
    of a unit are of its file."""
    partition_by: str | None = None
    """The column whose value is in the name of the folder, and not in the file."""

    def findings(self, name: str, part: pq.ParquetFile) -> list[Finding]:
        """Return the differences between a part's schema and footer and the expected ones."""
        schema: pa.Schema = partitions.whole_schema(part.schema_arrow)
        found = []
        partition = partitions.partition_in(part.schema_arrow)
        folder = partition.folder if partition is not None else ""
        if folder != partition_of(name):
            what = f"the rows are of {folder or 'no partition'}, by the footer"
            found.append(Finding(Check.METADATA, name, what))
        types = {field.name: str(field.type) for field in schema}
        if _comparable(types) != _comparable(self._types()):
            found.append(Finding(Check.SCHEMA, name, _difference("column", self.types, types)))
        stored = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        ours = {key: stored[key] for key in stored if key in self.metadata}
        if ours != self.metadata:
            found.append(Finding(Check.METADATA, name, _difference("footer", self.metadata, ours)))
        return found

    def _types(self) -> dict[str, str]:
        """Return the types with the column of the partition after the kept ones."""
        if self.partition_by is None:
            return self.types
        types = dict(self.types)
        kind = types.pop(self.partition_by)
        at = list(types).index("text_hash")
        items = list(types.items())
        return dict([*items[:at], (self.partition_by, kind), *items[at:]])


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """The expected parts of vectors and of dead letters."""

    vectors: PartKind
    dead_letters: PartKind
    digest: str
    """The digest of the settings that made the vectors."""

    @classmethod
    def of(cls, pinned: dict[str, Any], dim: int) -> Expected:
        """Return it for the content of `run.json`; `dim` is the number of dimensions."""
        embedding = EmbeddingConfig.from_facts(pinned["embedding"])
        layout = pinned["layout"]
        synced = is_synced(pinned)
        return cls(
            PartKind(
                _vector_types(layout, dim, passages=embedding.rows_are_passages),
                _metadata(embedding, layout, dim),
                has_vectors=True,
                tolerance=_tolerance(embedding, VectorType(layout["vector_type"]), dim),
                names_sources=synced,
                partition_by=layout.get("partition_by"),
            ),
            PartKind(
                _dead_types(layout, hashes=synced),
                _metadata(embedding, layout, None),
                has_vectors=False,
                names_sources=synced,
            ),
            pinned["embedding_digest"],
        )


def _comparable(types: dict[str, str]) -> list[tuple[str, str]]:
    """Return the columns with types, without the names that Parquet gives to list and map items."""
    return [
        (name, _MAP_NAME.sub(">", _LIST_FIELD.sub("list<element: ", kind)))
        for name, kind in types.items()
    ]


def _vector_types(layout: dict[str, Any], dim: int, *, passages: bool) -> dict[str, str]:
    schema = vectors_schema(
        _NO_ROWS, dim, layout["vector_type"], {}, passages=passages, id_name=id_name_of(layout),
        provenance=bool(layout.get("provenance")), media=bool(layout.get("media")),
        synced="sync" in layout,
    )  # fmt: skip
    ours = list({**_types(schema), id_name_of(layout): layout["id_type"]}.items())
    kept_at = schema.get_field_index("vector") + 1
    return {**dict(ours[:kept_at]), **layout["kept"], **dict(ours[kept_at:])}


def _dead_types(layout: dict[str, Any], *, hashes: bool) -> dict[str, str]:
    id_name = id_name_of(layout)
    types = _types(dead_letters_schema(_NO_ROWS, {}, id_name=id_name, hashes=hashes))
    return {**types, id_name: layout["id_type"]}


def _types(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) for field in schema}


def _metadata(
    embedding: EmbeddingConfig, layout: dict[str, Any], dim: int | None
) -> dict[str, str]:
    facts = part_metadata(embedding, "", dim)
    if id_name_of(layout) != "id":
        facts[ID_KEY] = id_name_of(layout)
    # Runs of several versions may have added to the dataset.
    return {name: value for name, value in facts.items() if name != _VERSION_KEY}


def _tolerance(embedding: EmbeddingConfig, numbers: VectorType, dim: int) -> float | None:
    if embedding.normalize:
        return NORMALIZED_TOLERANCE if numbers is VectorType.FLOAT32 else ROUNDED_TOLERANCE
    return ROUNDED_TOLERANCE if embedding.spec.gives_unit_length(dim) else None


def _difference(what: str, wanted: dict[str, str], found: dict[str, str]) -> str:
    lines = [
        f"{what} {name!r} is {found.get(name, 'missing')}, the dataset's is "
        f"{wanted.get(name, 'missing')}"
        for name in {**wanted, **found}
        if wanted.get(name) != found.get(name)
    ]
    return "; ".join(lines) or f"the order of columns is {', '.join(found)}"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PartReport:
    """The findings about one part, and its rows."""

    findings: list[Finding]
    rows: Rows | None
    """The `source_row` of each input row; None if the part cannot be read completely."""
    count: int = 0
    """Rows of the part. Passages of one input row count separately."""
    codes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """Dead letters by code."""
    removed: int = 0
    """Rows of its unit that had been removed when it was written."""
    units: Rows = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    """For each of `rows` the number of its unit in the group, ascending; -1 for more rows."""


class PartCheck:
    """The check of one part, block by block. It makes one finding per kind, with the first row."""

    def __init__(self, name: str, kind: PartKind, record: PartsRecord) -> None:
        self._name = name
        self._kind = kind
        self._owners = list(_owners(record, name, has_vectors=kind.has_vectors))
        self._units: list[Rows] = []
        self._counts: collections.Counter[Check] = collections.Counter()
        self._first: dict[Check, tuple[int, str]] = {}
        self._rows: list[Rows] = []
        self._last = (-1, -1)
        self.count = 0
        self.codes: collections.Counter[str] = collections.Counter()

    def add(self, block: pa.RecordBatch) -> None:
        """Check a block.

        Raises:
            pa.ArrowInvalid: the bytes are not values of their types.
        """
        block.validate(full=True)
        rows: Rows = block.column("source_row").to_numpy()
        self._rows.append(part_files.one_per_input_row(block).column("source_row").to_numpy())
        self.count += len(rows)
        belong, units = self._belong(block, rows)
        self._units.append(_one_per_input_row(units, block))
        self._note(Check.ROWS, np.flatnonzero(~belong), block)
        if not self._kind.has_vectors:
            self.codes.update(block.column("code").to_pylist())
            return
        if part_files.holds_passages(block.schema):
            self._note(Check.PASSAGE, self._out_of_order(block, rows), block)
        faults = vector_faults(part_files.matrix_of(block), self._kind.tolerance)
        self._note(Check.NOT_FINITE, faults.not_finite, block)
        self._note(Check.ZERO_VECTOR, faults.zero, block)
        self._note(Check.UNIT_LENGTH, faults.off_length, block)

    def rows(self) -> Rows:
        """Return the `source_row` of each input row so far."""
        return np.concatenate(self._rows) if self._rows else np.empty(0, np.int64)

    def units(self) -> Rows:
        """Return for each of `rows` the number of its unit in the group."""
        return np.concatenate(self._units) if self._units else np.empty(0, np.int64)

    def findings(self) -> list[Finding]:
        """Return the findings so far, in the order of their first rows."""
        found = []
        for check, (row, file) in self._first.items():
            noun, problem = _PROBLEMS[check]
            count = number_of(self._counts[check], noun)
            sentence = f"{count} {problem}, first in row {row} of {file}"
            found.append(Finding(check, self._name, sentence))
        return found

    def _belong(self, block: pa.RecordBatch, rows: Rows) -> tuple[npt.NDArray[np.bool_], Rows]:
        """Return for each row whether it belongs to the unit whose turn it is, and that unit."""
        units = np.full(len(rows), -1, np.int64)
        if self._kind.names_sources:
            return np.ones(len(rows), bool), units
        files = block.column("source_file").to_numpy(zero_copy_only=False)
        belong = np.zeros(len(rows), bool)
        at = 0
        while at < len(rows) and self._owners:
            number, record, left = self._owners[0]
            span = slice(at, min(len(rows), at + left))
            unit, here = record.unit, rows[span]
            mine = np.asarray(files[span] == record.source_file, bool)
            belong[span] = mine & (here >= unit.first_row) & (here < unit.end_row)
            units[span] = number
            self._owners[0] = number, record, left - len(here)
            if len(here) == left:
                del self._owners[0]
            at += len(here)
        return belong, units

    def _out_of_order(self, block: pa.RecordBatch, rows: Rows) -> npt.NDArray[np.intp]:
        """Return the passages that neither start a row nor follow the previous passage."""
        numbers = block.column("passage").to_numpy()
        last_row, last_number = self._last
        self._last = (int(rows[-1]), int(numbers[-1]))
        same_row = rows == np.concatenate(([last_row], rows[:-1]))
        next_one = numbers == np.concatenate(([last_number], numbers[:-1])) + 1
        return np.flatnonzero((numbers != 0) & ~(same_row & next_one))

    def _note(self, check: Check, offsets: npt.NDArray[np.intp], block: pa.RecordBatch) -> None:
        if not len(offsets):
            return
        at = int(offsets[0])
        source = block.column("source_row")[at].as_py(), block.column("source_file")[at].as_py()
        self._first.setdefault(check, source)
        self._counts[check] += len(offsets)


def _one_per_input_row(units: Rows, block: pa.RecordBatch) -> Rows:
    if not part_files.holds_passages(block.schema):
        return units
    begins: Rows = units[block.column("passage").to_numpy() == 0]
    return begins


def _owners(
    record: PartsRecord, name: str, *, has_vectors: bool
) -> Iterator[tuple[int, UnitRecord, int]]:
    """Yield the units whose rows a part has, with their numbers and these rows, in their order."""
    if isinstance(record, UnitRecord):
        yield 0, record, sys.maxsize
        return
    for number, member in enumerate(record.members):
        lost = member.dead + member.skipped
        if has_vectors:
            for span in member.spans():
                if f"{VECTORS}/{span.name}" == name:
                    yield number, member, span.rows
        elif lost:
            yield number, member, lost


def check_part(
    dataset: Dataset, name: str, kind: PartKind, record: PartsRecord, ids: DuplicateIds
) -> PartReport:
    """Read a part completely, block by block, and add its ids to `ids`."""
    try:
        part = part_files.open_part(dataset, name)
        found = kind.findings(name, part)
        if any(finding.check is Check.SCHEMA for finding in found):
            return PartReport(found, None)
        check = PartCheck(name, kind, record)
        removed = part_files.removed_rows(part.schema_arrow)
        for block in part_files.read_blocks(part, name):
            check.add(block)
            ids.add(part_files.ids_of(part_files.one_per_input_row(block)))
    except OutputError as error:
        check_of = Check.MISSING if error.missing else Check.UNREADABLE
        return PartReport([Finding(check_of, name, error.reason)], None)
    except pa.ArrowInvalid as error:
        return PartReport([Finding(Check.UNREADABLE, name, f"the part is damaged: {error}")], None)
    return PartReport(
        found + check.findings(), check.rows(), check.count, check.codes, removed, check.units()
    )


@dataclasses.dataclass(frozen=True, slots=True)
class UnitReport:
    """The findings about the unit or the group of one record, and its counts."""

    findings: list[Finding]
    record: PartsRecord | None = None
    """The record as its file has it; None if the file is damaged."""
    vectors: int = 0
    """Rows in its vector parts, as far as they can be read."""
    dead_letters: int = 0

    @property
    def units(self) -> tuple[UnitRecord, ...]:
        """The records of its units."""
        if self.record is None:
            return ()
        return (self.record,) if isinstance(self.record, UnitRecord) else self.record.members


def check_unit(
    dataset: Dataset, expected: Expected, named: PartsRecord, ids: DuplicateIds
) -> UnitReport:
    """Check the parts of a record against it, and that each row of its units occurs once.

    Args:
        dataset: the dataset of the record.
        expected: the expected parts.
        named: the record of a group, or that of a unit as far as its file name has it.
        ids: gets the ids of all rows.
    """
    where = f"{UNITS}/{record_name(named)}"
    try:
        record = dataset.read_record(named) if isinstance(named, UnitRecord) else named
    except OutputError as error:
        return UnitReport([Finding(Check.RECORD, where, error.message)])
    parts = RecordParts.of(record)
    vectors = [check_part(dataset, part, expected.vectors, record, ids) for part in parts.vectors]
    dead = [
        check_part(dataset, part, expected.dead_letters, record, ids) for part in parts.dead_letters
    ]
    found = [finding for part in (*vectors, *dead) for finding in part.findings]
    report = UnitReport(found, record, _row_count(vectors), _row_count(dead))
    found += _wrong_counts(where, report.units, vectors, dead)
    is_complete = all(part.rows is not None for part in (*vectors, *dead))
    if is_complete and not expected.vectors.names_sources:
        if isinstance(record, UnitRecord):
            rows = [part.rows for part in (*vectors, *dead) if part.rows is not None]
            found += _wrong_rows(where, record, rows)
        elif not found:
            found += _wrong_rows_of_group(where, record, vectors, dead)
    found += [] if found else _wrong_size(dataset, where, record)
    return report


def _wrong_rows_of_group(
    where: str, group: GroupRecord, vectors: Sequence[PartReport], dead: Sequence[PartReport]
) -> list[Finding]:
    """Return findings about missing and duplicated rows of the units of a group."""
    pieces = [[np.empty(0, np.int64)] * len(group.members)]
    for part in (*vectors, *dead):
        if part.rows is not None:
            ends = np.searchsorted(part.units, np.arange(1, len(group.members)))
            pieces.append(np.split(part.rows, ends))
    return [
        finding
        for member, *rows in zip(group.members, *pieces, strict=True)
        for finding in _wrong_rows(where, member, rows)
    ]


def _row_count(parts: Sequence[PartReport]) -> int:
    return sum(part.count for part in parts if part.rows is not None)


def _wrong_counts(
    where: str,
    units: Sequence[UnitRecord],
    vectors: Sequence[PartReport],
    dead: Sequence[PartReport],
) -> list[Finding]:
    found = []
    with_vectors = sum(record.vectors for record in units)
    lost = sum(record.dead + record.skipped for record in units)
    for noun, parts, recorded in (("vector", vectors, with_vectors), ("dead letter", dead, lost)):
        stored = _row_count(parts)
        if stored != recorded and all(part.rows is not None for part in parts):
            message = f"the record has {number_of(recorded, noun)}, its parts have {stored:,}"
            found.append(Finding(Check.COUNT, where, message))
    codes: collections.Counter[str] = collections.Counter()
    for record in units:
        codes.update({str(code): rows for code, rows in record.codes})
    if dead and dead[0].rows is not None and len(dead[0].rows) == lost and dead[0].codes != codes:
        message = f"the record has dead letters {dict(codes)}, its part has {dict(dead[0].codes)}"
        found.append(Finding(Check.COUNT, where, message))
    return found


def _wrong_size(dataset: Dataset, where: str, record: PartsRecord) -> list[Finding]:
    """Return a finding if the size of the parts has changed, as a run embeds their rows again."""
    if record.part_bytes is None:
        return []
    stored = dataset.size_of(dataset.sized_parts(record, dataset.parts_of(record).all))
    if stored == record.part_bytes:
        return []
    message = f"its parts have {stored:,} bytes, but {record.part_bytes:,} were committed"
    return [Finding(Check.COUNT, where, message)]


def _wrong_rows(where: str, record: UnitRecord, rows: Sequence[Rows]) -> list[Finding]:
    """Return findings about rows of the unit that are missing or occur more than once.

    As many rows are missing as were removed; the record does not say which.
    """
    unit = record.unit
    offsets: Rows = np.concatenate([np.empty(0, np.int64), *rows]) - unit.first_row
    times = np.bincount(offsets[(offsets >= 0) & (offsets < unit.rows)], minlength=unit.rows)
    found = []
    for wrong, how, expected in (
        (times == 0, "missing", record.removed),
        (times > 1, "duplicated", 0),
    ):
        at = np.flatnonzero(wrong)
        if len(at) != expected:
            row = f", first row {unit.first_row + int(at[0])}" if len(at) else ""
            removed = f", although {expected:,} were removed" if expected else ""
            rows_of_file = f"{number_of(len(at), 'row')} of {record.source_file}"
            found.append(Finding(Check.ROWS, where, f"{rows_of_file} {how}{removed}{row}"))
    return found
