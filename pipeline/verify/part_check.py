"""One part, opened and read to its end: are its rows, ids and vectors what they must be?"""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.verify.expected import PartKind
from schemas.errors import OutputError
from schemas.findings import Check, Finding
from schemas.units import UnitRecord
from transforms.core.vector_checks import vector_faults
from transforms.storage import part_reader
from transforms.storage.dataset import Dataset
from transforms.storage.id_count import IdCount

Rows = npt.NDArray[np.int64]

_SENTENCES = {
    Check.NOT_FINITE: "NaN or infinity in {n} vectors, first in row {row} of {file}",
    Check.ZERO_VECTOR: "{n} vectors are all zeros, first that of row {row} of {file}",
    Check.UNIT_LENGTH: "{n} vectors are not of length 1, first that of row {row} of {file}",
    Check.ROWS: "{n} rows are not of this unit, first row {row} of {file}",
    Check.PASSAGE: "{n} passages do not follow on the one before, first in row {row} of {file}",
}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PartReport:
    """What was found in one part."""

    findings: list[Finding]
    rows: Rows | None
    """The `source_row` of each row of the input; None where the part cannot be read to its end."""
    count: int = 0
    """Rows of the part: more where they are passages."""
    codes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """Dead letters by their code."""


class PartCheck:
    """Gathers what is wrong in one part over its blocks: a finding a kind, with its first row."""

    def __init__(self, name: str, kind: PartKind, record: UnitRecord) -> None:
        self._name = name
        self._kind = kind
        self._record = record
        self._counts: collections.Counter[Check] = collections.Counter()
        self._first: dict[Check, tuple[int, str]] = {}
        self._rows: list[Rows] = []
        self._last = (-1, -1)
        self.count = 0
        self.codes: collections.Counter[str] = collections.Counter()

    def add(self, block: pa.RecordBatch) -> None:
        """Looks at a block.

        Raises:
            pa.ArrowInvalid: its bytes are no values of their types.
        """
        block.validate(full=True)
        rows: Rows = block.column("source_row").to_numpy()
        self._rows.append(part_reader.once_a_row(block).column("source_row").to_numpy())
        self.count += len(rows)
        self._note(Check.ROWS, np.flatnonzero(~self._belong(block, rows)), block)
        if not self._kind.has_vectors:
            self.codes.update(block.column("code").to_pylist())
            return
        if part_reader.holds_passages(block.schema):
            self._note(Check.PASSAGE, self._out_of_order(block, rows), block)
        faults = vector_faults(part_reader.matrix_of(block), self._kind.tolerance)
        self._note(Check.NOT_FINITE, faults.not_finite, block)
        self._note(Check.ZERO_VECTOR, faults.zero, block)
        self._note(Check.UNIT_LENGTH, faults.off_length, block)

    def rows(self) -> Rows:
        """The `source_row` of each row of the input so far."""
        return np.concatenate(self._rows) if self._rows else np.empty(0, np.int64)

    def findings(self) -> list[Finding]:
        """What is wrong, in the order of first sight."""
        found = []
        for check, (row, file) in self._first.items():
            sentence = _SENTENCES[check].format(n=self._counts[check], row=row, file=file)
            found.append(Finding(check, self._name, sentence))
        return found

    def _belong(self, block: pa.RecordBatch, rows: Rows) -> npt.NDArray[np.bool_]:
        unit = self._record.unit
        files = block.column("source_file").to_numpy(zero_copy_only=False)
        mine = files == self._record.source_file
        return np.asarray(mine & (rows >= unit.first_row) & (rows < unit.end_row), dtype=bool)

    def _out_of_order(self, block: pa.RecordBatch, rows: Rows) -> npt.NDArray[np.intp]:
        """The passages that are not the first of their row, nor the next one of the last row."""
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


def check_part(
    dataset: Dataset, name: str, kind: PartKind, record: UnitRecord, ids: IdCount
) -> PartReport:
    """Reads a part to its end, block by block; its ids go into `ids`."""
    try:
        part = part_reader.open_part(dataset, name)
        found = kind.findings(name, part)
        if any(finding.check is Check.SCHEMA for finding in found):
            return PartReport(found, None)
        check = PartCheck(name, kind, record)
        for block in part_reader.read_blocks(part, name):
            check.add(block)
            ids.add(part_reader.once_a_row(block).column("id"))
    except OutputError as error:
        check_of = Check.MISSING if error.facts.get("gone") else Check.UNREADABLE
        return PartReport([Finding(check_of, name, str(error.facts["reason"]))], None)
    except pa.ArrowInvalid as error:
        return PartReport([Finding(Check.UNREADABLE, name, f"is damaged: {error}")], None)
    return PartReport(found + check.findings(), check.rows(), check.count, check.codes)
