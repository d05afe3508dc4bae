"""The map of the corpus: its rows, its texts, and datasets that have no map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import bulkembed, parts, read, run, write_rows
from support.report_page import Page
from support.topics import TEXTS

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.report.sample import (
    MAP_DIMS,
    MAX_PARTS,
    MAX_ROWS,
    READ_THREADS,
    draw_sample,
)
from bulkembed.schemas.job import OutputConfig, VectorEncoding, VectorType
from bulkembed.schemas.output_schema import vectors_schema
from bulkembed.schemas.units import Unit, UnitRecord
from bulkembed.transforms.dataset.commit import UnitTables, commit_unit
from bulkembed.transforms.dataset.dataset import Dataset

KEY = "0123456789abcdef"
DIM = 8


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in/a.parquet", TEXTS)


def embed(source: Path, *args: object) -> Path:
    out = source.parent.parent / "out"
    with EmulatorServer() as server:
        ended = run(server.url, source, out, "--dim", 128, *args)
    assert ended.code == 0, ended.err
    return out


def report(out: Path) -> Page:
    ended = bulkembed("report", out)
    assert ended.code == 0, ended.err
    assert ended.err == ""
    return Page(out / "_run/report.html")


def shown(page: Page) -> dict[str, str]:
    """The text of each point by where it is from."""
    return {row["from"]: row["text"] for row in page.rows("map") if "from" in row}


def wanted(texts: list[str]) -> dict[str, str]:
    return {f"a.parquet, row {at}": text for at, text in enumerate(texts)}


def test_each_point_has_its_rows_text_and_clusters_are_named_by_their_words(source: Path) -> None:
    page = report(embed(source))
    assert shown(page) == wanted(TEXTS)
    assert "90 of 90 rows with a vector." in page.text
    names = {word for row in page.rows("map") for word in row.get("name", [])}
    assert {"dog", "shares", "ship"} <= names
    assert names.isdisjoint({"the", "and", "into"})
    assert sum(row["rows"] for row in page.rows("lengths") if "rows" in row) == 90


def test_a_kept_column_has_the_texts_after_the_input_was_deleted(source: Path) -> None:
    out = embed(source, "--keep-columns", "text")
    source.unlink()
    assert shown(report(out)) == wanted(TEXTS)


def test_the_points_of_passages_show_the_text_of_the_passage(tmp_path: Path) -> None:
    rows = [f"{dog}. {bank}. {ship}." for dog, bank, ship in zip(*[iter(TEXTS)] * 3, strict=True)]
    source = write_rows(tmp_path / "in/a.parquet", rows)
    sizes = ("--passage-tokens", 16, "--passage-overlap", 0)
    out = embed(source, "--long-text", "passages", *sizes)
    page = report(out)
    passages = read(out).to_pylist()
    assert len(passages) > len(rows)
    cut = {rows[one["source_row"]][one["start"] : one["end"]] for one in passages}
    points = [row["text"] for row in page.rows("map") if "from" in row]
    assert len(points) > len(rows)  # Fewer than there are passages: equal vectors are one point.
    assert cut.issuperset(points)
    assert f"{len(passages)} of {len(passages)} rows with a vector." in page.text


def test_the_text_column_can_be_the_id_column(tmp_path: Path) -> None:
    source = tmp_path / "in/a.jsonl"
    source.parent.mkdir()
    source.write_text("\n".join(json.dumps({"id": text}) for text in TEXTS))
    assert sorted(shown(report(embed(source, "--text-column", "id"))).values()) == sorted(TEXTS)


def test_points_show_their_ids_if_the_texts_are_not_available(source: Path) -> None:
    out = embed(source)
    source.unlink()
    page = report(out)
    assert set(shown(page).values()) == {"(text not available)"}
    assert {row["id"] for row in page.rows("map") if "id" in row} == {str(n) for n in range(90)}
    assert "Texts available: 0" in page.text
    assert "lengths" not in page.charts


def test_a_text_that_has_changed_since_it_was_embedded_is_not_shown(tmp_path: Path) -> None:
    source = tmp_path / "in/a.jsonl"
    source.parent.mkdir()
    lines = [json.dumps({"id": n, "text": text}) for n, text in enumerate(TEXTS)]
    source.write_text("\n".join(lines))
    out = embed(source)
    source.write_text("\n".join(lines).replace("Lisbon", "Boston"))
    texts = shown(report(out))
    assert len(texts) == len(TEXTS)
    changed = {at for at, text in enumerate(TEXTS) if "Lisbon" in text}
    hidden = {at for at in range(90) if texts[f"a.jsonl, row {at}"] == "(text not available)"}
    assert hidden == changed != set()


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param([], id="none"),
        pytest.param(["a dog"], id="one"),
        pytest.param(["a dog", "a cat", "a ship"], id="three"),
        pytest.param(["a dog"] * 50, id="equal"),
    ],
)
def test_too_few_different_vectors_make_no_map(tmp_path: Path, texts: list[str]) -> None:
    page = report(embed(write_rows(tmp_path / "in/a.parquet", texts)))
    assert "map" not in page.charts
    assert "too few different vectors for a map" in page.text


def test_only_the_map_is_missing_if_a_part_cannot_be_read(source: Path) -> None:
    out = embed(source)
    [part] = parts(out, "vectors")
    part.write_bytes(part.read_bytes()[:1000])
    ended = bulkembed("report", out)
    assert ended.code == 0
    assert "no map of the corpus" in ended.err
    assert part.name in ended.err
    assert set(Page(out / "_run/report.html").charts) >= {"rows", "cost", "rate"}


def commit(
    dataset: Dataset, output: OutputConfig, number: int, rows: int, dim: int = DIM
) -> UnitRecord:
    """A unit whose vectors begin with the number of its row."""
    schema = vectors_schema(pa.schema([("id", pa.int64())]), dim, str(output.vector_type), {})
    first = number * rows
    flat = np.random.default_rng(number).random((rows, dim)).astype(np.float16)
    flat[:, 0] = range(rows)
    vector = pa.FixedSizeListArray.from_arrays(
        pa.array(flat.ravel()).cast(schema.field("vector").type.value_type),
        type=schema.field("vector").type,
    )
    places = pa.array(range(first, first + rows))
    table = pa.table(
        [places, vector, [bytes(16)] * rows, [False] * rows, ["a.parquet"] * rows, places],
        schema=schema,
    )
    record = UnitRecord(Unit(KEY, first, rows), rows, 0, 0, source_file="a.parquet", vectors=rows)
    return commit_unit(dataset, output, record, UnitTables(table, None))


def write(folder: Path, units: int, rows: int, **changes: Any) -> tuple[Dataset, list[UnitRecord]]:
    output = OutputConfig(uri=str(folder), **changes)
    dataset = Dataset.open(output.uri)
    return dataset, [commit(dataset, output, number, rows) for number in range(units)]


def test_of_a_large_vector_only_the_beginning_is_kept(tmp_path: Path) -> None:
    output = OutputConfig(uri=str(tmp_path))
    dataset = Dataset.open(output.uri)
    record = commit(dataset, output, 0, 100, dim=MAP_DIMS + 256)
    sample = draw_sample(dataset, [record], "text")
    [part] = parts(tmp_path, "vectors")
    stored = np.array(pq.read_table(part)["vector"].to_pylist(), np.float32)
    assert np.array_equal(sample.vectors, stored[:, :MAP_DIMS])


def test_a_sample_reads_a_bounded_part_of_a_large_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkembed.pipeline.report.sample.MAX_BYTES", 2 << 20)
    dataset, records = write(tmp_path, 2, 1000)
    sample = draw_sample(dataset, records, "text")
    assert len(sample.rows) == 2 * 256
    assert {row.part_row for row in sample.rows} == set(range(256))


def test_a_sample_of_a_slow_store_has_the_parts_that_the_time_allows_and_at_least_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkembed.pipeline.report.sample.MAX_PARTS_S", 0.0)
    sample = draw_sample(*write(tmp_path, READ_THREADS + 3, 50), "text")
    assert (sample.parts, sample.parts_of) == (READ_THREADS, READ_THREADS + 3)
    assert len(sample.rows) == 50 * READ_THREADS


def test_a_sample_is_spread_over_the_parts_and_the_same_each_time(tmp_path: Path) -> None:
    dataset, records = write(tmp_path, MAX_PARTS + 1, 50)
    sample = draw_sample(dataset, records, "text")
    assert sample.rows_of == 50 * (MAX_PARTS + 1)
    assert (sample.parts, sample.parts_of) == (MAX_PARTS, MAX_PARTS + 1)
    places = [row.source_row for row in sample.rows]
    assert len(set(places)) == len(places) == MAX_ROWS == len(sample.vectors)
    counts = np.bincount([place // 50 for place in places])
    assert counts[counts > 0].min() >= 10
    assert draw_sample(dataset, records, "text").rows == sample.rows


@pytest.mark.parametrize("vector_type", list(VectorType))
@pytest.mark.parametrize("encoding", list(VectorEncoding))
def test_each_sampled_row_has_its_own_vector_however_it_is_written(
    tmp_path: Path, vector_type: VectorType, encoding: VectorEncoding
) -> None:
    kind = {"vector_type": vector_type, "vector_encoding": encoding}
    sample = draw_sample(*write(tmp_path, 3, 100, **kind), "text")
    assert sorted(row.source_row for row in sample.rows) == list(range(300))
    assert [row.source_row % 100 for row in sample.rows] == sample.vectors[:, 0].tolist()
    assert (sample.parts, sample.parts_of) == (3, 3)
