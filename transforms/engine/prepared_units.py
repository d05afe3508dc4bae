"""Units read from their file, and prepared one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schemas.job import Dedupe, JobConfig
from schemas.units import FileUnits, UnitRecord
from transforms.core.tokens import TokenEstimator
from transforms.engine.prepare import PreparedUnit, Redo, prepare
from transforms.storage.dataset import Dataset
from transforms.storage.filesystems import open_found
from transforms.storage.row_reader import read_runs


def prepared_units(
    job: JobConfig, dataset: Dataset, estimator: TokenEstimator, file_units: FileUnits
) -> Iterator[PreparedUnit]:
    """The units of one file, in their order; one is in memory at a time.

    Raises:
        InputError: the file cannot be read, is not what it was, or a blank text is to stop the run.
        OutputError: dead letters that are to be tried again cannot be read.
    """
    file = file_units.file
    runs = [(unit.first_row, unit.rows) for unit in file_units.units]
    rows_read = read_runs(open_found(file.found), file, job.columns, job.row_schema, runs)
    redo: Sequence[UnitRecord | None] = file_units.redo or [None] * len(runs)
    for unit, record, rows in zip(file_units.units, redo, rows_read, strict=True):
        yield prepare(
            rows,
            unit,
            file.name,
            job.embedding,
            estimator,
            job.blank_text,
            _redo(dataset, record) if record is not None else None,
            dedupe=job.dedupe is not Dedupe.OFF,
        )


def _redo(dataset: Dataset, record: UnitRecord) -> Redo:
    whole = dataset.whole_record(record)
    return Redo(whole, dataset.redo_offsets(whole))
