"""Units read from their file, and prepared one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schemas.job import JobConfig
from schemas.units import FileUnits, UnitRecord
from transforms.core.tokens import TokenEstimator
from transforms.engine.prepare import PreparedUnit, Redo, prepare
from transforms.storage.dataset import Dataset
from transforms.storage.filesystems import open_found
from transforms.storage.row_reader import read_runs


def prepared_units(
    job: JobConfig,
    dataset: Dataset,
    estimator: TokenEstimator,
    file_units: FileUnits,
    most_texts: int | None = None,
) -> Iterator[PreparedUnit]:
    """The units of one file, in their order; one is in memory at a time.

    Args:
        job: what is wanted of a row.
        dataset: has the dead letters of units that are done anew.
        estimator: guesses tokens.
        file_units: the file and its units.
        most_texts: a unit whose texts are cut into more passages comes in parts, by rows.

    Raises:
        InputError: the file cannot be read, is not what it was, or a blank text is to stop the run.
        OutputError: dead letters that are to be tried again cannot be read.
    """
    file = file_units.file
    runs = [(unit.first_row, unit.rows) for unit in file_units.units]
    rows_read = read_runs(open_found(file.found), file, job.columns, job.row_schema, runs)
    redo: Sequence[UnitRecord | None] = file_units.redo or [None] * len(runs)
    for unit, record, rows in zip(file_units.units, redo, rows_read, strict=True):
        if record is not None:
            yield prepare(rows, unit, file.name, job, estimator, redo=_redo(dataset, record))
            continue
        left = rows
        while left.rows:
            part = unit.part(left.first_row, left.rows)
            prepared = prepare(left, part, file.name, job, estimator, most_texts=most_texts)
            yield prepared
            left = left.part(prepared.unit.rows, left.rows)


def _redo(dataset: Dataset, record: UnitRecord) -> Redo:
    whole = dataset.whole_record(record)
    return Redo(whole, dataset.redo_offsets(whole))
