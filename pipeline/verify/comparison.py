"""Rows of a dataset compared with the input, and with the vectors that the service returns now."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import operator
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from bulkembed.pipeline.run.request import InputRequest, RunRequest
from bulkembed.pipeline.run.row_schema import row_schema
from bulkembed.pipeline.run.scans import planned_files, scan_inputs
from bulkembed.pipeline.run.service import embed_as_dataset
from bulkembed.pipeline.verify.source_units import (
    InputMedia,
    PartRow,
    SourceUnit,
    passage_text,
    source_units,
)
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import CallError, InputError
from bulkembed.schemas.findings import Check, Finding
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.units import PartSpan, UnitRecord
from bulkembed.transforms.core.ranges import remaining_ranges
from bulkembed.transforms.core.vectors import Vector
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.unit_rows import UnitRows
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.row_parts import size_of
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.inputs.store_tags import is_tag, kind_of
from bulkembed.transforms.units.distinct_contents import RowFailure
from bulkembed.transforms.units.row_texts import RowText

Block = TypeVar("Block")

MIN_COSINE = 0.999
"""Minimum cosine of two vectors of one text, returned by the service at different times."""
SAMPLE_BYTES = 64 << 20
"""Rows to embed again are sent in lists whose media takes about so much memory."""


def source_text(batch: RowBatch, row: PartRow) -> RowText:
    """Return what is sent for a row of the input, or for a passage or piece of it.

    Args:
        batch: rows of the input; with media, as `source_hashes.with_files` returns them.
        row: `source_row`, and for a passage its number and its place.
    """
    offset = row["source_row"] - batch.first_row
    if batch.parts is None:
        return RowText(batch.titles[offset], passage_text(batch, row))
    bad, parts = batch.bad.get(offset), batch.parts[offset]
    return RowText(None, None, bad, parts, row.get("passage"))


def check_input(
    dataset: Dataset,
    wanted: InputRequest,
    embedding: EmbeddingConfig,
    records: Sequence[UnitRecord],
    sound: Sequence[UnitRecord],
    media: InputMedia | None,
) -> Iterator[Finding]:
    """Compare every row of the input with the dataset.

    Args:
        dataset: the dataset made of the input.
        wanted: the input. Every file of it is read completely.
        embedding: the pinned settings, which decide how a text was sent.
        records: all commit records, as their files have them.
        sound: the records without a finding; their rows are compared one by one.
        media: reads media; None if rows are texts alone.

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
    for file in _as_planned(dataset, scans.inputs):
        covering = by_key.pop(file.key, [])
        yield from _missing_rows(file, covering, known)
        to_read = sound_of.get(file.key, [])
        to_read = sorted(to_read, key=lambda record: record.unit)
        try:
            units = source_units(file, wanted, schema, embedding, to_read, media)
            yield from _other_rows(parts, file, to_read, units)
        except InputError as error:
            yield Finding(Check.INPUT, file.name, error.message)
    names = {file.name for file in scans.inputs}
    for covering in by_key.values():
        name, rows = covering[0].source_file, sum(record.unit.rows for record in covering)
        if name not in names:
            message = f"not in the input, but the dataset has {number_of(rows, 'row')} of it. "
            message += "Use --prune to remove them."
            yield Finding(Check.INPUT, name, message)


def _as_planned(dataset: Dataset, files: Sequence[InputFile]) -> Iterator[InputFile]:
    """Yield the files, those that were embedded from another store with the tags that they had.

    Nothing but name and size says that such a file is the same one; but its rows are compared.
    """
    planned = {(one.name, one.found.size_bytes): one for one in planned_files(dataset).values()}
    for file in files:
        before = planned.get((file.name, file.found.size_bytes), file)
        is_other_kind = is_tag(before.digest) and kind_of(before.digest) != kind_of(file.digest)
        yield dataclasses.replace(file, digest=before.digest) if is_other_kind else file


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
        what = "its content has changed since it was embedded"
        # A store's tag may be another one although the content is not.
        what = "written again after it was embedded" if is_tag(file.digest) else what
        message = f"{what}. Run the same command with --rescan."
    elif not covering:
        message += ". File names are relative to the pattern: use the same pattern as for the run."
    yield Finding(Check.INPUT, file.name, message)


def _other_rows(
    parts: UnitRows,
    file: InputFile,
    records: Sequence[UnitRecord],
    units: Iterable[SourceUnit],
) -> Iterator[Finding]:
    """Yield findings about rows whose id or content differs from the input."""
    for record, unit in zip(records, units, strict=True):
        for span in (*parts.vectors(record), *parts.dead_letters(record)):
            for what, rows, why in _differing(parts.read(span), unit):
                if rows:
                    message = f"{number_of(len(rows), 'row')} {what} in {file.name}"
                    yield Finding(Check.INPUT, span.name, f"{message}, first row {rows[0]}{why}")


def _differing(rows: pa.Table, unit: SourceUnit) -> Iterator[tuple[str, list[int], str]]:
    """Yield in what way rows differ from the input, which rows do, and why the first of them."""
    ids: list[int] = []
    contents: list[int] = []
    unreadable: list[int] = []
    why = ""
    for row in rows.to_pylist():
        if row["id"] != unit.id_of(row):
            ids.append(row["source_row"])
        if "text_hash" not in row or row["text_hash"] == unit.hash_of(row):
            continue
        fault = unit.fault_of(row)
        why = why or (f": {fault}" if fault else "")
        (unreadable if fault else contents).append(row["source_row"])
    yield "with another id", ids, ""
    yield f"with {unit.OTHER}", contents, ""
    yield "whose media cannot be read", unreadable, why


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ComparedRow:
    """A row of the dataset with the text of its vector."""

    part: str
    source_file: str
    source_row: int
    vector: Vector
    text: RowText


def check_sample(
    pinned: dict[str, Any],
    request: RunRequest,
    embedding: EmbeddingConfig,
    sampled: Iterable[ComparedRow],
    media: InputMedia | None,
) -> tuple[str, list[Finding]]:
    """Embed rows again and compare the vectors by cosine.

    Args:
        pinned: the content of `run.json`.
        request: the run that made the dataset, with its service.
        embedding: its pinned settings.
        sampled: some of its rows.
        media: reads media; None if rows are texts alone.

    Returns:
        A summary in a few words, and the findings.

    Raises:
        ConfigError: the service is another one, or there is no key.
    """
    fetch = None if media is None else media.fetch
    found: list[Finding] = []
    scores: list[float] = []
    count = 0
    for rows in _in_memory(sampled):
        count += len(rows)
        try:
            texts = [row.text for row in rows]
            results = embed_as_dataset(pinned, request, embedding, texts, fetch).rows
        except CallError as error:
            return "none", [Finding(Check.SAMPLE, "the service", error.message)]
        for row, result in zip(rows, results, strict=True):
            found += _differs(row, result, scores)
    if not count:
        message = "no row of the input is in the dataset. Give the input of the run with --against."
        return "none", [Finding(Check.SAMPLE, "the input", message)]
    least = f", lowest cosine {min(scores):.6f}" if scores else ""
    return f"{number_of(count, 'row')} embedded again{least}", found


def _in_memory(rows: Iterable[ComparedRow]) -> Iterator[list[ComparedRow]]:
    """Yield rows in lists of a limited size: their media may be in them."""
    some: list[ComparedRow] = []
    size = 0
    for row in rows:
        some.append(row)
        size += sum(map(size_of, row.text.parts))
        if size > SAMPLE_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _differs(
    row: ComparedRow, result: Vector | RowFailure, scores: list[float]
) -> Iterator[Finding]:
    """Yield a finding if the vector is another one now; add the cosine of both to `scores`."""
    where = f"row {row.source_row} of {row.source_file}"
    if isinstance(result, RowFailure):
        message = f"{where}: the service no longer returns a vector: {result.message}"
        yield Finding(Check.SAMPLE, row.part, message)
        return
    scores.append(_cosine(row.vector, result))
    if not scores[-1] >= MIN_COSINE:
        message = f"{where}: cosine {scores[-1]:.4f} with the vector that the service returns now"
        yield Finding(Check.SAMPLE, row.part, message)


def _cosine(one: Vector, other: Vector) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def draw(
    dataset: Dataset,
    wanted: InputRequest,
    records: Sequence[UnitRecord],
    rows: int,
    media: InputMedia | None,
) -> Iterator[ComparedRow]:
    """Yield random rows of the dataset whose file is in the input; each call draws other ones.

    Raises:
        ConfigError: the input is missing.
    """
    scans = scan_inputs(
        dataset, wanted.patterns, wanted.columns,
        format=wanted.format, skip_bad_files=True, tables_as_files=True,
    )  # fmt: skip
    schema = row_schema(dataset, scans.files, wanted.columns)
    files = {file.key: file for file in _as_planned(dataset, scans.inputs)}
    covered = [record for record in records if record.unit.file_key in files]
    total = sum(record.vectors for record in covered)
    places = sorted(random.sample(range(total), min(rows, total)))
    parts = UnitRows(dataset, ["vector", "source_row"])
    for record, here in places_within(places, covered, [one.vectors for one in covered]):
        file = files[record.unit.file_key]
        yield from _rows_of(parts, wanted, file, schema, record, here, media)


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
    wanted: InputRequest,
    file: InputFile,
    schema: pa.Schema,
    record: UnitRecord,
    places: Sequence[int],
    media: InputMedia | None,
) -> Iterator[ComparedRow]:
    """Yield rows of one unit, by their places among its vectors, in the order of the input."""
    found: list[tuple[PartRow, str, Vector]] = []
    spans = list(parts.vectors(record))
    for span, here in places_within(places, spans, [one.rows for one in spans]):
        for at in here:
            one = parts.read(PartSpan(span.name, span.first_row + at, 1))
            (row,) = one.drop_columns(["vector"]).to_pylist()
            found.append((row, span.name, part_files.matrix_of(one)[0].copy()))
    found.sort(key=lambda one: one[0]["source_row"])
    of_rows = itertools.groupby(found, key=lambda one: one[0]["source_row"])
    numbers = sorted({row["source_row"] for row, _, _ in found})
    ranges = [(number, 1) for number in numbers]
    batches = read_batches(open_found(file.found), file, wanted.columns, schema, ranges)
    for (number, some), batch in zip(of_rows, batches, strict=True):
        batch = batch if media is None else media.with_files(batch, file)
        for row, name, vector in some:
            yield ComparedRow(name, file.name, number, vector, source_text(batch, row))
