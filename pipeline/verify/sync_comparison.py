"""Rows of a synchronised dataset compared with the input, by id."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from bulkembed.pipeline.run.request import InputRequest
from bulkembed.pipeline.run.row_schema import row_schema
from bulkembed.pipeline.run.scans import Scans, scan_inputs
from bulkembed.pipeline.sync.mirror import Mirror, compare
from bulkembed.pipeline.verify.comparison import ComparedRow, source_text
from bulkembed.pipeline.verify.source_units import InputMedia, MediaUnit, TextUnit
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import InputError
from bulkembed.schemas.findings import Check, Finding
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.units import PartsRecord
from bulkembed.transforms.core.hashing import keys
from bulkembed.transforms.core.row_difference import Why
from bulkembed.transforms.dataset import part_files, scratch
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import RecordParts
from bulkembed.transforms.dataset.row_keys import id_keys
from bulkembed.transforms.inputs.filesystems import locate, open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.sync.compared_rows import Comparison
from bulkembed.transforms.sync.row_reading import by_file

_WRONG = {
    Why.NEW: "missing in the dataset",
    Why.CONTENT: "with {other}",
    Why.COLUMNS: "with other kept columns",
}


def check_synced_input(
    dataset: Dataset,
    wanted: InputRequest,
    embedding: EmbeddingConfig,
    records: Sequence[PartsRecord],
) -> Iterator[Finding]:
    """Compare every row of the input with the dataset, by id.

    Args:
        dataset: the dataset.
        wanted: the input. Every file of it is read completely.
        embedding: the pinned settings, which decide how a text was sent.
        records: the records without a finding.

    Raises:
        ConfigError: nothing matches the pattern, or a column is missing.
    """
    scans, schema = _scan(dataset, wanted, trust_saved=False)
    for error in scans.unreadable:
        yield Finding(Check.INPUT, error.path, error.message)
    root = None if wanted.media_root is None else locate(wanted.media_root)
    compared = Comparison(
        embedding, wanted.columns, schema, wanted.fetch, root, by_bytes=embedding.media is not None
    )
    try:
        with scratch.folder() as folder:
            mirror = compare(dataset, compared, scans.inputs, records, folder)
    except InputError as error:
        yield Finding(Check.INPUT, error.path, error.message)
        return
    yield from _findings(mirror, TextUnit.OTHER if embedding.media is None else MediaUnit.OTHER)


def _findings(mirror: Mirror, other: str) -> Iterator[Finding]:
    found = mirror.found
    for why, problem in _WRONG.items():
        places = found.send[found.send_why == why]
        for number, rows in by_file(places):
            what = problem.format(other=other)
            message = f"{number_of(len(rows), 'row')} {what}, first row {rows[0]}"
            yield Finding(Check.INPUT, mirror.files[number].name, message)
    for number, rows in by_file(found.remove):
        message = f"{number_of(len(rows), 'row')} that the input does not have, first row {rows[0]}"
        yield Finding(Check.INPUT, mirror.parts[number].name, message)


def _scan(dataset: Dataset, wanted: InputRequest, *, trust_saved: bool) -> tuple[Scans, pa.Schema]:
    scans = scan_inputs(
        dataset, wanted.patterns, wanted.columns,
        format=wanted.format, skip_bad_files=True, trust_saved=trust_saved, tables_as_files=True,
        flag="--against",
    )  # fmt: skip
    return scans, row_schema(dataset, scans.files, wanted.columns)


def draw_synced(
    dataset: Dataset,
    wanted: InputRequest,
    records: Sequence[PartsRecord],
    rows: int,
    media: InputMedia | None,
) -> Iterator[ComparedRow]:
    """Yield the vectors of random rows of the input; rows without a vector are left out.

    Their ids are looked up in all parts. Of a row with several passages, the first one is taken.
    """
    scans, schema = _scan(dataset, wanted, trust_saved=True)
    total = scans.rows
    places = sorted(random.sample(range(total), min(rows, total)))
    picked: dict[bytes, tuple[str, RowBatch]] = {}
    first = 0
    for file in scans.inputs:
        ranges = [(at - first, 1) for at in places if first <= at < first + file.rows]
        batches = read_batches(open_found(file.found), file, wanted.columns, schema, ranges)
        for batch in batches:
            batch = batch if media is None else media.with_files(batch, file)
            if batch.ids[0].is_valid:
                picked[id_keys(batch.ids)[0].tobytes()] = (file.name, batch)
        first += file.rows
    for record in records:
        for name in RecordParts.of(record).vectors:
            yield from _found_in(dataset, name, picked)


def _found_in(
    dataset: Dataset, name: str, picked: dict[bytes, tuple[str, RowBatch]]
) -> Iterator[ComparedRow]:
    ids = id_keys(part_files.read_columns(dataset, name, ["id"])["id"])
    wanted = keys(list(picked))
    at = {row for row in np.flatnonzero(np.isin(ids[:, 0], wanted)) if ids[row].tobytes() in picked}
    if not at:
        return
    opened = part_files.open_part(dataset, name)
    columns = part_files.with_passage_columns(opened, ["vector"])
    first = 0
    for block in part_files.read_blocks(opened, name, columns):
        vectors = part_files.matrix_of(block)
        for row in sorted(n for n in at if first <= n < first + block.num_rows):
            values = block.slice(row - first, 1).drop_columns(["vector"]).to_pylist()
            place = values[0] if values else {}
            if place.get("passage", 0):
                continue
            file_name, batch = picked[ids[row].tobytes()]
            text = source_text(batch, {"source_row": batch.first_row, **place})
            vector = vectors[row - first].copy()
            yield ComparedRow(name, file_name, batch.first_row, vector, text)
        first += block.num_rows
