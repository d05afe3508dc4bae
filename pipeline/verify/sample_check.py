"""Some rows embedded anew: does the service give the vectors that stand in the dataset?"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bulkembed.pipeline.run.plan import scan_inputs
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.run.service import ask
from bulkembed.pipeline.verify.input_check import source_text
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import CallError
from bulkembed.schemas.findings import Check, Finding
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.vectors import Vector
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import RecordParts
from bulkembed.transforms.inputs.columns import merge_schemas
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.units.row_texts import GivenUp, RowText

LEAST_COSINE = 0.999
"""Of a vector with the one that the service gives for the same text at another time."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SampledRow:
    """A row of the dataset with the text that it was made of."""

    part: str
    source_file: str
    source_row: int
    vector: Vector
    text: RowText


def check_sample(
    dataset: Dataset,
    pinned: dict[str, Any],
    request: RunRequest,
    records: Sequence[UnitRecord],
    rows: int,
) -> tuple[str, list[Finding]]:
    """Embeds some rows anew, drawn anew each time, and compares them by cosine.

    Args:
        dataset: whose rows they are.
        pinned: the content of `run.json`.
        request: the run that made it, with its input and its service.
        records: of units without a finding.
        rows: how many.

    Returns:
        How it went, in a few words, and the findings.

    Raises:
        ConfigError: the input is not there, the service is another one, or there is no key.
    """
    embedding = EmbeddingConfig.from_facts(pinned["embedding"])
    sampled = list(_draw(dataset, request, records, rows))
    if not sampled:
        message = "no row of the input is in the dataset: give the input of the run by --against"
        return "none", [Finding(Check.SAMPLE, "the input", message)]
    try:
        fates = ask(pinned, request, embedding, [row.text for row in sampled]).rows
    except CallError as error:
        return "none", [Finding(Check.SAMPLE, "the service", error.message)]
    found, scores = [], []
    for row, fate in zip(sampled, fates, strict=True):
        where = f"row {row.source_row} of {row.source_file}"
        if isinstance(fate, GivenUp):
            message = f"{where}: the service gives no vector any more: {fate.message}"
            found.append(Finding(Check.SAMPLE, row.part, message))
            continue
        scores.append(_cosine(row.vector, fate))
        if not scores[-1] >= LEAST_COSINE:
            message = f"{where}: cosine {scores[-1]:.4f} with the vector that the service gives now"
            found.append(Finding(Check.SAMPLE, row.part, message))
    least = f", least cosine {min(scores):.6f}" if scores else ""
    return f"{len(sampled):,} rows embedded anew{least}", found


def _cosine(one: Vector, other: Vector) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _draw(
    dataset: Dataset, request: RunRequest, records: Sequence[UnitRecord], rows: int
) -> Iterator[SampledRow]:
    """Rows of the dataset, each as likely as any other, whose file is in the input."""
    wanted = request.input
    scans = scan_inputs(
        dataset, wanted.patterns, wanted.columns,
        format=wanted.format, skip_bad_files=True, tables_as_files=True,
    )  # fmt: skip
    schema = merge_schemas(scans.files, wanted.columns)
    files = {file.key: file for file in scans.inputs}
    covered = [record for record in records if record.unit.file_key in files]
    total = sum(record.vectors for record in covered)
    places = sorted(random.sample(range(total), min(rows, total)))
    first = 0
    for record in covered:
        here = [at - first for at in places if first <= at < first + record.vectors]
        if here:
            file = files[record.unit.file_key]
            yield from _rows_of(dataset, request, file, schema, record, here)
        first += record.vectors


def _rows_of(
    dataset: Dataset,
    request: RunRequest,
    file: InputFile,
    schema: pa.Schema,
    record: UnitRecord,
    places: Sequence[int],
) -> Iterator[SampledRow]:
    """Rows of one unit, by their places among its vectors."""
    unit = record.unit
    filesystem = open_found(file.found)
    span = [(unit.first_row, unit.rows)]
    [run] = read_batches(filesystem, file, request.input.columns, schema, span)
    first = 0
    for name in RecordParts.of(record).vectors:
        opened = part_files.open_part(dataset, name)
        columns = part_files.with_passages(opened, ["vector", "source_row"])
        for block in part_files.read_blocks(opened, name, columns):
            here = [at - first for at in places if first <= at < first + block.num_rows]
            vectors, rows = part_files.matrix_of(block), block.drop_columns(["vector"])
            for at in here:
                (row,) = rows.slice(at, 1).to_pylist()
                source, text = row["source_row"], source_text(run, row)
                yield SampledRow(name, file.name, source, vectors[at].copy(), text)
            first += block.num_rows
