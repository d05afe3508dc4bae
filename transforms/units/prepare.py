"""Units read from their file, and prepared one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import BlankText
from bulkembed.schemas.errors import InputError
from bulkembed.schemas.job import Dedupe, JobConfig
from bulkembed.schemas.units import FileUnits, Unit, UnitRecord
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.units.contents import DistinctContents, Passage, why_blank


@dataclasses.dataclass(frozen=True, slots=True)
class DeadRow:
    """A row that is given up on: its offset in the unit, and why."""

    offset: int
    code: DeadCode
    message: str
    http_status: int | None = None
    attempts: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Redo:
    """A committed unit whose dead letters are tried again: its record, and their offsets."""

    record: UnitRecord
    offsets: frozenset[int]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PreparedUnit:
    """A unit ready to be sent.

    `passages[row]` are the passages of the row's text, none for a row that is not sent; `hashes[i]`
    is the text hash of `items[i]`.
    """

    unit: Unit
    source_file: str
    rows: RowBatch
    items: tuple[Content, ...]
    hashes: tuple[bytes, ...]
    passages: tuple[tuple[Passage, ...], ...]
    dead: tuple[DeadRow, ...]
    redo: UnitRecord | None = None
    """The record that stands, where only the rows that it gave up on are done."""


def prepare(
    run: RowBatch,
    unit: Unit,
    source_file: str,
    job: JobConfig,
    estimator: TokenEstimator,
    *,
    redo: Redo | None = None,
    most_texts: int | None = None,
) -> PreparedUnit:
    """The texts of a unit, as they are sent, and its rows that cannot be sent.

    Rows with the same text share an item, unless texts are not to be compared.

    Args:
        run: the rows of the unit.
        unit: what is done.
        source_file: name of its file.
        job: what is wanted of a row.
        estimator: guesses tokens.
        redo: only the rows that were given up on are looked at.
        most_texts: where texts are cut, the unit ends after the row with which it has as many.

    Raises:
        InputError: a text is blank, and blank texts are to stop the run.
    """
    sent = DistinctContents(job.embedding, estimator, dedupe=job.dedupe is not Dedupe.OFF)
    if not job.embedding.long_text.cuts:
        most_texts = None
    texts = 0
    passages: list[tuple[Passage, ...]] = []
    dead: list[DeadRow] = []
    for offset, (title, text) in enumerate(zip(run.titles, run.texts, strict=True)):
        if most_texts is not None and texts >= most_texts:
            break
        if redo is not None and offset not in redo.offsets:
            passages.append(())
            continue
        row = unit.first_row + offset
        bad = run.bad.get(offset) or _blank(text, source_file, row, job.blank_text)
        if bad is not None or text is None:
            passages.append(())
            dead.append(DeadRow(offset, *(bad or (DeadCode.BLANK_TEXT, ""))))
            continue
        passages.append(sent.add(title, text))
        texts += len(passages[-1])
    rows = len(passages)
    return PreparedUnit(
        unit.part(unit.first_row, rows),
        source_file,
        run if rows == run.rows else run.part(0, rows),
        tuple(sent.items),
        tuple(sent.hashes),
        tuple(passages),
        tuple(dead),
        redo.record if redo else None,
    )


def _blank(
    text: str | None, source_file: str, row: int, policy: BlankText
) -> tuple[DeadCode, str] | None:
    why = why_blank(text)
    if why is None:
        return None
    if policy is BlankText.STOP:
        raise InputError(
            f"row {row} of {source_file}: {why}; with --blank-text skip such rows "
            "become dead letters with code blank_text"
        )
    return DeadCode.BLANK_TEXT, why


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
    rows_read = read_batches(open_found(file.found), file, job.columns, job.row_schema, runs)
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
    whole = dataset.read_record(record)
    return Redo(whole, dataset.failed_offsets(whole))
