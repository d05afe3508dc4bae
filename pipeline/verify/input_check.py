"""The input read again: is each of its rows in the dataset, under its id, and with its text?"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from bulkembed.pipeline.run.plan import scan_inputs
from bulkembed.pipeline.run.request import InputRequest
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import InputError
from bulkembed.schemas.findings import Check, Finding
from bulkembed.schemas.inputs import InputColumns, InputFile
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core import ranges
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import RecordParts
from bulkembed.transforms.inputs.columns import merge_schemas
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.units.row_texts import RowText


def source_text(run: RowBatch, row: Mapping[str, Any]) -> RowText:
    """Title and text as they stand in the input; of a passage, the characters that it is.

    Args:
        run: the rows of the unit.
        row: `source_row`, and where rows are passages `start` and `end` as well.
    """
    offset = row["source_row"] - run.first_row
    text = run.texts[offset]
    return RowText(run.titles[offset], text and text[row.get("start") : row.get("end")])


def check_input(
    dataset: Dataset,
    wanted: InputRequest,
    embedding: EmbeddingConfig,
    records: Sequence[UnitRecord],
    sound: Sequence[UnitRecord],
) -> Iterator[Finding]:
    """Holds every row of the input against the dataset.

    Args:
        dataset: made of the input.
        wanted: the input; every file of it is read to its end.
        embedding: what is pinned: it decides how a text was sent.
        records: all commit records, whole.
        sound: those of them without a finding; their rows are compared one by one.

    Raises:
        ConfigError: nothing matches the pattern, or a column is not there.
    """
    scans = scan_inputs(
        dataset, wanted.patterns, wanted.columns,
        format=wanted.format, skip_bad_files=True, trust_saved=False, tables_as_files=True,
    )  # fmt: skip
    for error in scans.unreadable:
        yield Finding(Check.INPUT, str(error.facts.get("path", "")), error.message)
    schema = merge_schemas(scans.files, wanted.columns)
    by_key: dict[str, list[UnitRecord]] = collections.defaultdict(list)
    for record in records:
        by_key[record.unit.file_key].append(record)
    known = {record.source_file for record in records}
    for file in scans.inputs:
        covering = by_key.pop(file.key, [])
        yield from _missing_rows(file, covering, known)
        to_read = [record for record in sound if record.unit.file_key == file.key]
        try:
            yield from _other_rows(dataset, file, wanted.columns, schema, embedding, to_read)
        except InputError as error:
            yield Finding(Check.INPUT, file.name, error.message)
    names = {file.name for file in scans.inputs}
    for covering in by_key.values():
        name, rows = covering[0].source_file, sum(record.unit.rows for record in covering)
        if name not in names:
            message = f"not in the input, but {rows:,} rows of it are in the dataset; see --prune"
            yield Finding(Check.INPUT, name, message)


def _missing_rows(
    file: InputFile, covering: Sequence[UnitRecord], known: set[str]
) -> Iterator[Finding]:
    left = ranges.subtract(file.rows, [(r.unit.first_row, r.unit.rows) for r in covering])
    rows = sum(count for _, count in left)
    if not rows:
        return
    message = f"{rows:,} of {file.rows:,} rows are not in the dataset, first row {left[0][0]}"
    if not covering and file.name in known:
        message = "its content is not the one that was embedded; run the same command with --rescan"
    elif not covering:
        message += "; names count from the pattern's root: is it the pattern of the run?"
    yield Finding(Check.INPUT, file.name, message)


def _other_rows(
    dataset: Dataset,
    file: InputFile,
    columns: InputColumns,
    schema: pa.Schema,
    embedding: EmbeddingConfig,
    records: Sequence[UnitRecord],
) -> Iterator[Finding]:
    """Rows whose id or text in the input is not the one that stands in the dataset."""
    records = sorted(records, key=lambda record: record.unit)
    runs = read_batches(
        open_found(file.found), file, columns, schema,
        [(record.unit.first_row, record.unit.rows) for record in records],
    )  # fmt: skip
    for record, run in zip(records, runs, strict=True):
        for name in RecordParts.of(record).all:
            ids, texts = _differing(dataset, name, run, embedding)
            for what, rows in (("id", ids), ("text", texts)):
                if rows:
                    message = f"{len(rows):,} rows have another {what} in {file.name}"
                    yield Finding(Check.INPUT, name, f"{message}, first row {rows[0]}")


def _differing(
    dataset: Dataset, name: str, run: RowBatch, embedding: EmbeddingConfig
) -> tuple[list[int], list[int]]:
    """The rows of a part whose id, and those whose text, is not the input's."""
    ids, texts = [], []
    part = part_files.open_part(dataset, name)
    wanted = [c for c in ("id", "source_row", "text_hash") if c in part.schema_arrow.names]
    for block in part_files.read_blocks(part, name, part_files.with_passages(part, wanted)):
        for row in block.to_pylist():
            if row["id"] != run.ids[row["source_row"] - run.first_row].as_py():
                ids.append(row["source_row"])
            if "text_hash" in row and row["text_hash"] != _hash(source_text(run, row), embedding):
                texts.append(row["source_row"])
    return ids, texts


def _hash(source: RowText, embedding: EmbeddingConfig) -> bytes | None:
    return None if source.text is None else sent_hash(embedding, source.title, source.text)
