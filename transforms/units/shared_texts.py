"""Texts that several units share: embedded first, and kept where all units find them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import CallError
from bulkembed.schemas.inputs import InputColumns, InputFile
from bulkembed.schemas.live import LiveCounts
from bulkembed.schemas.units import CallCounts, FilePicks
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.passages import passage_spans
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset.kept_answers import AnswerSink
from bulkembed.transforms.dataset.known_vectors import SearchedVectors, known_hashes
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.units.distinct_contents import DistinctContents, why_blank
from bulkembed.transforms.units.text_vectors import AnswerRecorder

TEXTS = 1000
"""Texts that are sent and counted together, usually in ten requests."""
WINDOW_ROWS = 2500


class SharedOutcome:
    """Receives the results of texts that units share.

    A failed text is not noted here: each unit sends it again, so that each of its rows gets its
    own reason and counts towards its unit.
    """

    def __init__(
        self, texts: DistinctContents, embedding: EmbeddingConfig, kept: AnswerSink
    ) -> None:
        self._texts = texts
        self._answers = AnswerRecorder(embedding, kept)
        self._sent = 0
        self._known = 0

    def restore(self, *sources: SearchedVectors) -> list[Content]:
        """Return the texts that are not paid for yet."""
        hashes = [item.hash for item in self._texts.items]
        known = set().union(*(known_hashes(source, hashes) for source in sources))
        self._known = len(known)
        return [item for item in self._texts.items if item.hash not in known]

    def embedded(self, items: Sequence[Content], answer: Answer, attempts: int) -> None:
        """Keep the vectors of one answered request."""
        self._answers.record(items, answer, attempts)
        self._sent += len(items)

    def dead(self, item: Content, code: DeadCode, error: CallError, attempts: int) -> None:
        """Leave the text to the units."""

    def counts(self) -> CallCounts:
        """Return the counts of the requests; `repeated` corrects what the units count."""
        return self._answers.counts(repeated=-self._sent)

    def live(self) -> LiveCounts:
        """Return the counts so far."""
        return dataclasses.replace(self._answers.live(), shared=self._known + self._sent)


def text_only(columns: InputColumns) -> tuple[InputColumns, pa.Schema]:
    """Return the columns to read for texts and titles alone, without ids and kept columns."""
    less = dataclasses.replace(columns, id_column=None, keep_columns=())
    return less, pa.schema([pa.field("id", pa.string())])


DamagePolicy = Callable[[InputFile, Iterator[RowBatch]], Iterator[RowBatch]]
"""Yields the batches of a file, and decides what its damage does; see `Engine.skip_damage`."""


def read_shared(
    files: Sequence[FilePicks],
    columns: InputColumns,
    embedding: EmbeddingConfig,
    estimator: TokenEstimator,
    on_damage: DamagePolicy = lambda file, rows: rows,
) -> Iterator[DistinctContents]:
    """Yield single texts, some at a time. Rows that cannot be sent are left to their units.

    Args:
        files: the texts.
        columns: the columns of the input.
        embedding: how a text is sent.
        estimator: estimates tokens.
        on_damage: handles the damage of a file; by default it is an error.

    Raises:
        InputError: a file cannot be read, or has changed.
    """
    texts = DistinctContents(embedding, estimator)
    for title, text in _texts(files, columns, embedding, on_damage):
        texts.add(title, text)
        if len(texts.items) == TEXTS:
            yield texts
            texts = DistinctContents(embedding, estimator)
    if texts.items:
        yield texts


def _texts(
    files: Sequence[FilePicks],
    columns: InputColumns,
    embedding: EmbeddingConfig,
    on_damage: DamagePolicy,
) -> Iterator[tuple[str | None, str]]:
    """Yield (title, text or passage) of the picks whose rows have a text."""
    for picks in files:
        ranges = list(_windows(picks.rows.tolist(), picks.file.rows))
        read = read_batches(open_found(picks.file.found), picks.file, *text_only(columns), ranges)
        for batch in on_damage(picks.file, read):
            first, end = np.searchsorted(
                picks.rows, [batch.first_row, batch.first_row + batch.rows]
            )
            yield from _picked(batch, picks.part(int(first), int(end)), embedding)


def _picked(
    batch: RowBatch, picks: FilePicks, embedding: EmbeddingConfig
) -> Iterator[tuple[str | None, str]]:
    pairs = zip(picks.rows.tolist(), picks.passages.tolist(), strict=True)
    for row, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        offset = row - batch.first_row
        title, text = batch.titles[offset], batch.texts[offset]
        if text is None or offset in batch.bad or why_blank(text) is not None:
            continue
        places = passage_spans(embedding, title, text)
        for _, passage in group:
            start, end = places[passage]
            yield title, text[start:end]


def _windows(rows: Sequence[int], file_rows: int) -> Iterator[tuple[int, int]]:
    """Yield (first row, number of rows) of ranges that contain all of the rows."""
    end = -1
    for row in rows:
        if row >= end:
            end = min(row + WINDOW_ROWS, file_rows)
            yield row, end - row
