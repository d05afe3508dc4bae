"""Prepare units of rows with media: read in small batches, and split where they get large."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Iterator, Sequence

import pyarrow as pa

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import BlankText
from bulkembed.schemas.errors import InputError
from bulkembed.schemas.inputs import FoundFile, InputFile
from bulkembed.schemas.job import Dedupe, JobConfig
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.schemas.units import FileUnits, Unit, UnitRecord
from bulkembed.transforms.core.ranges import RowRange, split_ranges
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.inputs.filesystems import Location, open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import BadValue, RowBatch, RowSources, kept_table
from bulkembed.transforms.units.distinct_contents import DistinctContents, Passage, RowFailure
from bulkembed.transforms.units.media_rows import FetchAhead, MediaRows, RowContent, SourceMedia
from bulkembed.transforms.units.prepare import DeadLetterRetry, PreparedUnit, retry_of_unit
from bulkembed.transforms.units.source_hashes import FileVersions, source_hashes, with_files

WINDOW_BYTES = 8 << 20
"""About how many bytes of a file are read at a time."""
MAX_WINDOW_ROWS = 256
SPOOL_BYTES = 64 << 20
"""A unit ends with the batch of rows that makes its media larger than this."""
MAX_CONTENTS = 4000
"""A unit ends with the batch of rows that gives it more contents: its vectors are in memory."""
BLANK = "every part of --content is null or empty"


def windows(file: InputFile, ranges: Sequence[RowRange]) -> list[RowRange]:
    """Return the same rows in ranges that can be in memory with their media."""
    rows = WINDOW_BYTES * max(1, file.rows) // max(1, file.found.size_bytes)
    return list(split_ranges(ranges, max(1, min(rows, MAX_WINDOW_ROWS))))


def media_root(root: tuple[str, str] | None, found: FoundFile) -> Location:
    """Return the folder of relative paths in the rows of an input file; `root` if it is given."""
    if root is not None:
        return Location(*root)
    return Location(found.store, posixpath.dirname(found.path))


def media_units(
    job: JobConfig,
    dataset: Dataset,
    estimator: TokenEstimator,
    file_units: FileUnits,
    fetch: FetchAhead,
    versions: FileVersions | None = None,
    *,
    splits: bool = True,
) -> Iterator[PreparedUnit]:
    """Yield the units of one file, in order, or parts of them, as `prepare.prepared_units`.

    Args:
        job: the run; some parts of its contents are media.
        dataset: has the dead letters that are retried.
        estimator: estimates tokens.
        file_units: the file and its units.
        fetch: reads media that is not in the input.
        versions: looks at its files, if the output says what identifies its rows in the input.
        splits: whether units are split where their media gets large.

    Raises:
        InputError: the file cannot be read or has changed, or a blank row stops the run.
        OutputError: the disk is full, or dead letters to retry cannot be read.
    """
    file = file_units.file
    pieces = [windows(file, [(unit.first_row, unit.rows)]) for unit in file_units.units]
    ranges = [one for own in pieces for one in own]
    batches = read_batches(open_found(file.found), file, job.columns, job.row_schema, ranges)
    records: Sequence[UnitRecord | None] = file_units.retry_of or [None] * len(pieces)
    for unit, record, own in zip(file_units.units, records, pieces, strict=True):
        retry = None if record is None else retry_of_unit(dataset, record)
        maker = None
        for first_row, rows in own:
            if maker is None:
                maker = _UnitMaker(job, estimator, file, first_row, fetch, versions, retry)
            maker.add(next(batches))
            is_full = splits and retry is None and maker.is_full
            if is_full or first_row + rows == unit.end_row:
                yield maker.prepared(unit)
                maker = None


class _UnitMaker:
    """Makes one unit of batches of its rows."""

    def __init__(
        self,
        job: JobConfig,
        estimator: TokenEstimator,
        file: InputFile,
        first_row: int,
        fetch: FetchAhead,
        versions: FileVersions | None,
        retry: DeadLetterRetry | None,
    ) -> None:
        self._job = job
        self._file_name = file.name
        self._base = media_root(job.media_root, file.found)
        self._versions = versions
        self._first_row = first_row
        self._retry = retry
        sent = DistinctContents(job.embedding, estimator, dedupe=job.dedupe is not Dedupe.OFF)
        self._sent = sent
        settings = job.embedding.media or MediaSettings()
        self._media = MediaRows(sent, settings, fetch, self._base)
        self._batches: list[RowBatch] = []
        self._passages: list[tuple[Passage, ...]] = []
        self._facts: list[tuple[SourceMedia, ...]] = []
        self._failed: dict[int, RowFailure] = {}
        self._source_hashes: list[bytes | None] = []

    @property
    def is_full(self) -> bool:
        """Whether the unit should end here."""
        return self.held_bytes > SPOOL_BYTES or len(self._sent.items) >= MAX_CONTENTS

    @property
    def held_bytes(self) -> int:
        """The bytes of media, and of kept columns, that the unit holds."""
        kept: int = sum(one.kept.nbytes for one in self._batches)
        return self._media.spooled_bytes + kept

    def add(self, batch: RowBatch) -> None:
        """Add the next rows; their bytes are no longer needed afterwards.

        Raises:
            InputError, OutputError: see `media_units`.
        """
        if self._versions is not None:
            # Before the files are read: one that changes meanwhile has another version then.
            batch = with_files(batch, self._file_name, self._base)
            found = source_hashes(batch.parts or (), self._job.embedding, self._versions)
            self._source_hashes += [one and one.hash for one in found]
        parts = batch.parts or [()] * batch.rows
        is_sent = [self._is_sent(batch, offset) for offset in range(batch.rows)]
        rows = [parts[offset] if sent else () for offset, sent in enumerate(is_sent)]
        for offset, content in enumerate(self._media.add(rows)):
            self._add_row(batch, offset, content if is_sent[offset] else RowContent(()))
        self._batches.append(dataclasses.replace(batch, parts=None))

    def _is_sent(self, batch: RowBatch, offset: int) -> bool:
        return offset not in batch.bad and self._is_due(len(self._passages) + offset)

    def _is_due(self, offset: int) -> bool:
        return self._retry is None or offset in self._retry.offsets

    def _add_row(self, batch: RowBatch, offset: int, content: RowContent | BadValue | None) -> None:
        place = len(self._passages)
        file, row = batch.source(offset, self._file_name)
        if offset in batch.bad and self._is_due(place):
            self._failed[place] = RowFailure(*batch.bad[offset])
        elif isinstance(content, BadValue):
            what = f"row {row} of {file}: {content}"
            self._failed[place] = RowFailure(content.code, what)
        elif content is None:
            if self._job.blank_text is BlankText.STOP:
                raise InputError(
                    f"row {row} of {file}: {BLANK}. With --blank-text skip such rows "
                    "become dead letters with code blank_text."
                )
            self._failed[place] = RowFailure(DeadCode.BLANK_TEXT, BLANK)
        sent = content if isinstance(content, RowContent) else RowContent(())
        self._passages.append(sent.passages)
        self._facts.append(sent.media)

    def prepared(self, unit: Unit) -> PreparedUnit:
        """Return the unit of the rows so far."""
        return PreparedUnit(
            unit.part(self._first_row, len(self._passages)),
            self._file_name,
            _joined(self._batches, self._job.row_schema),
            tuple(self._sent.items),
            tuple(self._passages),
            self._failed,
            self._retry.record if self._retry else None,
            tuple(self._facts),
            tuple(self._source_hashes) if self._versions is not None else None,
        )


def _joined(batches: Sequence[RowBatch], schema: pa.Schema) -> RowBatch:
    """Return consecutive batches of a file as one, without the rows' parts."""
    kept = pa.schema([field for field in schema if field.name != "id"])
    texts = [text for batch in batches for text in batch.texts]
    tables = [batch.kept for batch in batches]
    return RowBatch(
        first_row=batches[0].first_row,
        ids=pa.concat_arrays([batch.ids for batch in batches]),
        titles=[None] * len(texts),
        texts=texts,
        kept=pa.concat_tables(tables) if len(kept) else kept_table([], kept, len(texts)),
        bad={},
        unkept=frozenset().union(*(batch.unkept for batch in batches)),
        sources=_joined_sources(batches),
    )


def _joined_sources(batches: Sequence[RowBatch]) -> RowSources | None:
    found = [batch.sources for batch in batches if batch.sources is not None]
    if not found:
        return None
    return RowSources(
        pa.concat_arrays([one.files for one in found]),
        pa.concat_arrays([one.rows for one in found]),
    )
