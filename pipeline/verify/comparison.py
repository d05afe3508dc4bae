"""Rows of a dataset compared with the input, and with the vectors that the service returns now."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import operator
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from bulkembed.pipeline.run.request import InputRequest, RunRequest
from bulkembed.pipeline.run.row_schema import row_schema
from bulkembed.pipeline.run.scans import scan_inputs
from bulkembed.pipeline.run.service import embed_as_dataset
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import CallError, InputError
from bulkembed.schemas.findings import Check, Finding
from bulkembed.schemas.inputs import InputColumns, InputFile
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.units import PartSpan, UnitRecord
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.ranges import remaining_ranges
from bulkembed.transforms.core.vectors import Vector
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.unit_rows import UnitRows
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.units.distinct_contents import RowFailure
from bulkembed.transforms.units.row_texts import RowText

Block = TypeVar("Block")

MIN_COSINE = 0.999
"""Minimum cosine of two vectors of one text, returned by the service at different times."""


def source_text(batch: RowBatch, row: Mapping[str, Any]) -> RowText:
    """Return the title and text of a row in the input, or of a passage in it.

    Args:
        batch: the rows of the unit.
        row: `source_row`, and for a passage `start` and `end`.
    """
    offset = row["source_row"] - batch.first_row
    text = batch.texts[offset]
    return RowText(batch.titles[offset], text and text[row.get("start") : row.get("end")])


def check_input(
    dataset: Dataset,
    wanted: InputRequest,
    embedding: EmbeddingConfig,
    records: Sequence[UnitRecord],
    sound: Sequence[UnitRecord],
) -> Iterator[Finding]:
    """Compare every row of the input with the dataset.

    Args:
        dataset: the dataset made of the input.
        wanted: the input. Every file of it is read completely.
        embedding: the pinned settings, which decide how a text was sent.
        records: all commit records, as their files have them.
        sound: the records without a finding; their rows are compared one by one.

    Raises:
        ConfigError: nothing matches the pattern, or a column is missing.
    """
    scans = scan_inputs(
        dataset, wanted.patterns, wanted.columns,
        format=wanted.format, skip_bad_files=True, trust_saved=False, tables_as_files=True,
        flag="--against",
    )  # fmt: skip
    for error in scans.unreadable:
        yield Finding(Check.INPUT, error.path, error.message)
    schema = row_schema(dataset, scans.files, wanted.columns)
    by_key, sound_of = _by_file(records), _by_file(sound)
    known = {record.source_file for record in records}
    parts = UnitRows(dataset, ["id", "source_row", "text_hash"])
    for file in scans.inputs:
        covering = by_key.pop(file.key, [])
        yield from _missing_rows(file, covering, known)
        to_read = sound_of.get(file.key, [])
        try:
            yield from _other_rows(parts, file, wanted.columns, schema, embedding, to_read)
        except InputError as error:
            yield Finding(Check.INPUT, file.name, error.message)
    names = {file.name for file in scans.inputs}
    for covering in by_key.values():
        name, rows = covering[0].source_file, sum(record.unit.rows for record in covering)
        if name not in names:
            message = f"not in the input, but the dataset has {number_of(rows, 'row')} of it. "
            message += "Use --prune to remove them."
            yield Finding(Check.INPUT, name, message)


def _by_file(records: Sequence[UnitRecord]) -> dict[str, list[UnitRecord]]:
    by_key: dict[str, list[UnitRecord]] = collections.defaultdict(list)
    for record in records:
        by_key[record.unit.file_key].append(record)
    return by_key


def _missing_rows(
    file: InputFile, covering: Sequence[UnitRecord], known: set[str]
) -> Iterator[Finding]:
    left = remaining_ranges(file.rows, [(r.unit.first_row, r.unit.rows) for r in covering])
    rows = sum(count for _, count in left)
    if not rows:
        return
    message = (
        f"{rows:,} of {number_of(file.rows, 'row')} missing in the dataset, first row {left[0][0]}"
    )
    if not covering and file.name in known:
        message = (
            "its content has changed since it was embedded. Run the same command with --rescan."
        )
    elif not covering:
        message += ". File names are relative to the pattern: use the same pattern as for the run."
    yield Finding(Check.INPUT, file.name, message)


def _other_rows(
    parts: UnitRows,
    file: InputFile,
    columns: InputColumns,
    schema: pa.Schema,
    embedding: EmbeddingConfig,
    records: Sequence[UnitRecord],
) -> Iterator[Finding]:
    """Yield findings about rows whose id or text differs from the input."""
    records = sorted(records, key=lambda record: record.unit)
    batches = read_batches(
        open_found(file.found), file, columns, schema,
        [(record.unit.first_row, record.unit.rows) for record in records],
    )  # fmt: skip
    for record, batch in zip(records, batches, strict=True):
        for span in (*parts.vectors(record), *parts.dead_letters(record)):
            ids, texts = _differing(parts.read(span), batch, embedding)
            for what, rows in (("id", ids), ("text", texts)):
                if rows:
                    message = f"{number_of(len(rows), 'row')} with another {what} in {file.name}"
                    yield Finding(Check.INPUT, span.name, f"{message}, first row {rows[0]}")


def _differing(
    rows: pa.Table, batch: RowBatch, embedding: EmbeddingConfig
) -> tuple[list[int], list[int]]:
    """Return the rows whose id differs from the input, and those whose text differs."""
    ids, texts = [], []
    for row in rows.to_pylist():
        if row["id"] != batch.ids[row["source_row"] - batch.first_row].as_py():
            ids.append(row["source_row"])
        if "text_hash" in row and row["text_hash"] != _hash(source_text(batch, row), embedding):
            texts.append(row["source_row"])
    return ids, texts


def _hash(source: RowText, embedding: EmbeddingConfig) -> bytes | None:
    return None if source.text is None else sent_hash(embedding, source.title, source.text)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ComparedRow:
    """A row of the dataset with the text of its vector."""

    part: str
    source_file: str
    source_row: int
    vector: Vector
    text: RowText


def check_sample(
    pinned: dict[str, Any], request: RunRequest, sampled: Sequence[ComparedRow]
) -> tuple[str, list[Finding]]:
    """Embed rows again and compare the vectors by cosine.

    Args:
        pinned: the content of `run.json`.
        request: the run that made the dataset, with its service.
        sampled: some of its rows.

    Returns:
        A summary in a few words, and the findings.

    Raises:
        ConfigError: the service is another one, or there is no key.
    """
    embedding = EmbeddingConfig.from_facts(pinned["embedding"])
    if not sampled:
        message = "no row of the input is in the dataset. Give the input of the run with --against."
        return "none", [Finding(Check.SAMPLE, "the input", message)]
    try:
        results = embed_as_dataset(pinned, request, embedding, [row.text for row in sampled]).rows
    except CallError as error:
        return "none", [Finding(Check.SAMPLE, "the service", error.message)]
    found, scores = [], []
    for row, result in zip(sampled, results, strict=True):
        where = f"row {row.source_row} of {row.source_file}"
        if isinstance(result, RowFailure):
            message = f"{where}: the service no longer returns a vector: {result.message}"
            found.append(Finding(Check.SAMPLE, row.part, message))
            continue
        scores.append(_cosine(row.vector, result))
        if not scores[-1] >= MIN_COSINE:
            message = (
                f"{where}: cosine {scores[-1]:.4f} with the vector that the service returns now"
            )
            found.append(Finding(Check.SAMPLE, row.part, message))
    least = f", lowest cosine {min(scores):.6f}" if scores else ""
    return f"{number_of(len(sampled), 'row')} embedded again{least}", found


def _cosine(one: Vector, other: Vector) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def draw(
    dataset: Dataset, request: RunRequest, records: Sequence[UnitRecord], rows: int
) -> Iterator[ComparedRow]:
    """Yield random rows of the dataset whose file is in the input; each call draws other ones.

    Raises:
        ConfigError: the input is missing.
    """
    wanted = request.input
    scans = scan_inputs(
        dataset, wanted.patterns, wanted.columns,
        format=wanted.format, skip_bad_files=True, tables_as_files=True,
    )  # fmt: skip
    schema = row_schema(dataset, scans.files, wanted.columns)
    files = {file.key: file for file in scans.inputs}
    covered = [record for record in records if record.unit.file_key in files]
    total = sum(record.vectors for record in covered)
    places = sorted(random.sample(range(total), min(rows, total)))
    parts = UnitRows(dataset, ["vector", "source_row"])
    for record, here in places_within(places, covered, [one.vectors for one in covered]):
        file = files[record.unit.file_key]
        yield from _rows_of(parts, request, file, schema, record, here)


def places_within(
    places: Sequence[int], blocks: Sequence[Block], sizes: Sequence[int]
) -> Iterator[tuple[Block, list[int]]]:
    """Yield the blocks that have some of the rows, with the places of these rows in the block.

    Args:
        places: of rows in all blocks one after the other, ascending.
        blocks: consecutive rows.
        sizes: the rows of each block.
    """
    ends = np.cumsum(np.array(sizes, np.int64))
    block_of = np.searchsorted(ends, places, side="right")
    pairs = zip(block_of.tolist(), places, strict=True)
    for at, here in itertools.groupby(pairs, operator.itemgetter(0)):
        first = int(ends[at]) - sizes[at]
        yield blocks[at], [place - first for _, place in here]


def _rows_of(
    parts: UnitRows,
    request: RunRequest,
    file: InputFile,
    schema: pa.Schema,
    record: UnitRecord,
    places: Sequence[int],
) -> Iterator[ComparedRow]:
    """Yield rows of one unit, by their places among its vectors."""
    unit = record.unit
    filesystem = open_found(file.found)
    rows_of_unit = [(unit.first_row, unit.rows)]
    [batch] = read_batches(filesystem, file, request.input.columns, schema, rows_of_unit)
    spans = list(parts.vectors(record))
    for span, here in places_within(places, spans, [one.rows for one in spans]):
        for at in here:
            one = parts.read(PartSpan(span.name, span.first_row + at, 1))
            (row,) = one.drop_columns(["vector"]).to_pylist()
            vector = part_files.matrix_of(one)[0].copy()
            yield ComparedRow(
                span.name, file.name, row["source_row"], vector, source_text(batch, row)
            )
