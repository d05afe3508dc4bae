"""Prepare units: read their rows, and make the contents to send."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import BlankText
from bulkembed.schemas.errors import InputError
from bulkembed.schemas.job import Dedupe, JobConfig
from bulkembed.schemas.units import FileUnits, Unit, UnitRecord
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.part_files import failed_offsets
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.units.distinct_contents import (
    DistinctContents,
    Passage,
    RowFailure,
    why_blank,
)
from bulkembed.transforms.units.media_rows import SourceMedia


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetterRetry:
    """A committed unit whose dead letters are retried: its record, and their offsets."""

    record: UnitRecord
    offsets: frozenset[int]


@dataclasses.dataclass(frozen=True, slots=True)
class SmallUnit:
    """A unit of a group: small units that are embedded and committed together."""

    unit: Unit
    source_file: str


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PreparedUnit:
    """A unit that is ready to send, or a group of small units, whose rows follow each other."""

    unit: Unit
    """Of a group, the key of the group, 0 and the number of its rows."""
    source_file: str
    """Empty if it is a group: then the rows have sources."""
    rows: RowBatch
    items: tuple[Content, ...]
    """The distinct contents."""
    passages: tuple[tuple[Passage, ...], ...]
    """The passages of each row's text; none for a row that is not sent."""
    failed: Mapping[int, RowFailure]
    """Why rows cannot be sent, by their offsets in the unit, ascending; blank rows as well."""
    retry_of: UnitRecord | None = None
    """The committed record, if only its dead letters are retried."""
    media: Sequence[tuple[SourceMedia, ...]] | None = None
    """The media of each row, if `--content` names media."""
    source_hashes: Sequence[bytes | None] | None = None
    """What identifies each row in the input, if the output says so; see `source_hashes`."""
    members: tuple[SmallUnit, ...] = ()
    """The units of a group, in the order of their rows."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """The unit, or the units of the group."""
        return tuple(member.unit for member in self.members) or (self.unit,)


def has_unplanned_media(prepared: PreparedUnit) -> bool:
    """Return whether a unit has media that no plan looked up: not in the input, or in pieces."""
    if prepared.media is None:
        return False
    if any(len(row) > 1 for row in prepared.passages):
        return True
    return any(one.uri is not None for row in prepared.media for one in row)


def prepare(
    batch: RowBatch,
    unit: Unit,
    source_file: str,
    job: JobConfig,
    estimator: TokenEstimator,
    *,
    retry_of: DeadLetterRetry | None = None,
    max_texts: int | None = None,
) -> PreparedUnit:
    """Return the contents of a unit, and why some of its rows cannot be sent.

    Rows with the same text share a content, unless `--dedupe off`.

    Args:
        batch: the rows of the unit.
        unit: the unit.
        source_file: the name of its file.
        job: the run.
        estimator: estimates tokens.
        retry_of: the dead letters to retry; other rows are not sent.
        max_texts: a unit whose texts are cut ends with the row that reaches so many passages.

    Raises:
        InputError: a text is blank, and the run has `--blank-text stop`.
    """
    sent = DistinctContents(job.embedding, estimator, dedupe=job.dedupe is not Dedupe.OFF)
    if not job.embedding.long_text.cuts:
        max_texts = None
    texts = 0
    passages: list[tuple[Passage, ...]] = []
    failed: dict[int, RowFailure] = {}
    for offset, (title, text) in enumerate(zip(batch.titles, batch.texts, strict=True)):
        if max_texts is not None and texts >= max_texts:
            break
        if retry_of is not None and offset not in retry_of.offsets:
            passages.append(())
            continue
        bad = batch.bad.get(offset) or _blank(text, job.blank_text, batch, offset, source_file)
        if bad is not None or text is None:
            passages.append(())
            failed[offset] = RowFailure(*(bad or (DeadCode.BLANK_TEXT, "")))
            continue
        passages.append(sent.add(title, text))
        texts += len(passages[-1])
    rows = len(passages)
    return PreparedUnit(
        unit.part(unit.first_row, rows),
        source_file,
        batch if rows == batch.rows else batch.part(0, rows),
        tuple(sent.items),
        tuple(passages),
        failed,
        retry_of.record if retry_of else None,
    )


def _blank(
    text: str | None, policy: BlankText, batch: RowBatch, offset: int, source_file: str
) -> tuple[DeadCode, str] | None:
    why = why_blank(text)
    if why is None:
        return None
    if policy is BlankText.STOP:
        file, row = batch.source(offset, source_file)
        raise InputError(
            f"row {row} of {file}: {why}. With --blank-text skip such rows become dead "
            "letters with code blank_text."
        )
    return DeadCode.BLANK_TEXT, why


def prepared_units(
    job: JobConfig,
    dataset: Dataset,
    estimator: TokenEstimator,
    file_units: FileUnits,
    max_texts: int | None = None,
) -> Iterator[PreparedUnit]:
    """Yield the units of one file, in order; one is in memory at a time.

    Args:
        job: the run.
        dataset: has the dead letters that are retried.
        estimator: estimates tokens.
        file_units: the file and its units.
        max_texts: a unit whose texts are cut into more passages is split between rows.

    Raises:
        InputError: the file cannot be read or has changed, or a blank text stops the run.
        OutputError: dead letters to retry cannot be read.
    """
    file = file_units.file
    ranges = [(unit.first_row, unit.rows) for unit in file_units.units]
    batches = read_batches(open_found(file.found), file, job.columns, job.row_schema, ranges)
    retry_of: Sequence[UnitRecord | None] = file_units.retry_of or [None] * len(ranges)
    for unit, record, batch in zip(file_units.units, retry_of, batches, strict=True):
        if record is not None:
            retry = retry_of_unit(dataset, record)
            yield prepare(batch, unit, file.name, job, estimator, retry_of=retry)
            continue
        remaining = batch
        while remaining.rows:
            part = unit.part(remaining.first_row, remaining.rows)
            prepared = prepare(remaining, part, file.name, job, estimator, max_texts=max_texts)
            yield prepared
            remaining = remaining.part(prepared.unit.rows, remaining.rows)


def retry_of_unit(dataset: Dataset, record: UnitRecord) -> DeadLetterRetry:
    """Return which rows of a committed unit are retried.

    Raises:
        OutputError: its dead letters cannot be read.
    """
    record = dataset.read_record(record)
    return DeadLetterRetry(record, failed_offsets(dataset, record))
