"""What one job leaves behind, reopened by others and held against the input."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import orjson
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import asked_alone, dead_codes, matrix, parts, read, run, summary, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.demo.corpus import SHARDS

COLUMNS = ["id", "vector", "text_hash", "truncated", "source_file", "source_row"]


def sent_hash(text: str, title: str = "") -> bytes:
    first, second = title.encode(), text.encode()
    data = len(first).to_bytes(8, "little") + first + len(second).to_bytes(8, "little") + second
    return hashlib.blake2b(data, digest_size=16).digest()


def test_thousands_of_docstrings_go_in_and_every_one_comes_out(
    server: EmulatorServer, corpus: Path, tmp_path: Path
) -> None:
    source, output = corpus, tmp_path / "out"
    rows = sum(pq.read_metadata(file).num_rows for file in source.glob("*.parquet"))
    rows += polars.read_ndjson(source / SHARDS[2]).height
    assert rows > 2_000
    ended = run(
        server.url, source, output, "--dim", 128, "--keep-columns", "module,text",
        "--unit-rows", 300,
    )  # fmt: skip
    assert (ended.code, ended.last.count("Traceback")) == (0, 0), ended.err
    counts = summary(output)["dataset"]
    blank = counts["skipped"]
    assert blank <= 5
    assert counts == {
        "rows_in": rows, "embedded": rows - blank, "dead": 0, "skipped": blank, "left": 0,
    }  # fmt: skip
    assert f"{rows:,} in: {rows - blank:,} embedded" in ended.out
    assert set(dead_codes(output).values()) <= {"blank_text"}

    table = read(output)
    stats = server.stats()
    assert stats["texts"] == stats["distinct_texts"] + stats["texts_paid_twice"]
    assert stats["texts"] == summary(output)["counts"]["texts"]
    assert stats["tokens"] == summary(output)["counts"]["tokens"]
    assert stats["answers"] == {"200": stats["calls"]}
    assert stats["most_in_flight"] > 1

    expected = [
        row
        for file in sorted(source.glob("*.parquet"))
        for row in pq.read_table(file).select(["id", "module", "text"]).to_pylist()
    ]
    lines = polars.read_ndjson(source / SHARDS[2]).select("id", "module", "text")
    expected = [row for row in expected + lines.to_dicts() if row["text"].strip()]
    assert len(expected) == rows - blank
    assert table.select(["id", "module", "text"]).to_pylist() == expected
    assert table["text_hash"].to_pylist() == [sent_hash(row["text"]) for row in expected]
    vectors = matrix(table)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for at in range(0, rows - blank, rows // 12):
        alone = asked_alone(server.url, expected[at]["text"], outputDimensionality=128)
        assert np.abs(vectors[at] - alone / np.linalg.norm(alone)).max() < 1e-6


@pytest.fixture
def small(server: EmulatorServer, tmp_path: Path) -> Path:
    texts = [f"Text number {n} about {['cats', 'banks', 'rain'][n % 3]}" for n in range(30)]
    write_rows(tmp_path / "in/a.parquet", texts)
    output = tmp_path / "out"
    ended = run(server.url, tmp_path / "in", output, "--unit-rows", 7)
    assert ended.code == 0, ended.err
    return output


def test_the_output_has_the_columns_types_and_files_that_were_promised(small: Path) -> None:
    assert sorted(path.name for path in small.iterdir()) == ["_SUCCESS", "_run", "vectors"]
    assert len(parts(small, "vectors")) == 5
    assert (small / "_run/run.json").exists()
    assert list((small / "_run/plan").iterdir())
    assert len(list((small / "_run/units").iterdir())) == 5
    for part in parts(small, "vectors"):
        schema = pq.read_schema(part)
        assert part.name.startswith("part-")
        assert schema.names == COLUMNS
        assert schema.field("vector").type.list_size == 3072
        assert schema.field("vector").type.value_type == pa.float32()
        assert schema.field("text_hash").type == pa.binary(16)
        column = pq.ParquetFile(part).metadata.row_group(0).column(1)
        assert column.path_in_schema == "vector.list.element"
        assert set(column.encodings) <= {"PLAIN", "RLE"}


def test_the_footer_says_what_the_vectors_are(small: Path) -> None:
    pinned = orjson.loads((small / "_run/run.json").read_bytes())
    for part in parts(small, "vectors"):
        metadata = pq.read_schema(part).metadata
        found = {key.decode(): value.decode() for key, value in metadata.items()}
        assert found["bulkembed.model"] == "gemini-embedding-001"
        assert found["bulkembed.dim"] == "3072"
        assert found["bulkembed.task_type"] == "RETRIEVAL_DOCUMENT"
        assert found["bulkembed.prefix"] == ""
        assert found["bulkembed.normalized"] == "true"
        assert found["bulkembed.digest"] == pinned["embedding_digest"]
        assert found["bulkembed.version"] == pinned["bulkembed_version"]


def test_every_vector_is_the_one_that_the_server_gives_for_that_text_alone(
    small: Path, server: EmulatorServer, tmp_path: Path
) -> None:
    texts = pq.read_table(tmp_path / "in/a.parquet")["text"].to_pylist()
    table = read(small)
    assert table["id"].to_pylist() == list(range(30))
    alone = np.stack([asked_alone(server.url, text) for text in texts])
    assert np.array_equal(matrix(table), alone)


def test_rows_keep_their_order_inside_a_unit(small: Path) -> None:
    for part in parts(small, "vectors"):
        rows = pq.read_table(part)["source_row"].to_pylist()
        assert rows == list(range(rows[0], rows[0] + len(rows)))


def test_duckdb_reads_the_vectors_and_finds_neighbours(small: Path) -> None:
    with duckdb.connect() as database:
        found = database.execute(
            "SELECT b.id, array_cosine_similarity(a.vector::FLOAT[3072], b.vector::FLOAT[3072]) c "
            f"FROM '{small}/vectors/*.parquet' a, '{small}/vectors/*.parquet' b "
            "WHERE a.id = 0 ORDER BY c DESC"
        ).fetchall()
    assert len(found) == 30
    assert found[0] == (0, pytest.approx(1.0))
    assert {row[0] % 3 for row in found[:10]} == {0}


def test_polars_and_pandas_read_the_vectors(small: Path) -> None:
    frame = polars.read_parquet(small / "vectors/*.parquet")
    assert frame.schema["vector"] == polars.Array(polars.Float32, 3072)
    assert frame.height == 30
    pandas_frame = read(small).to_pandas()
    assert np.stack(pandas_frame["vector"].tolist()).shape == (30, 3072)


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        (pa.int64(), [3, -1, 7]),
        (pa.int32(), [3, -1, 7]),
        (pa.uint64(), [2**64 - 1, 0, 7]),
        (pa.string(), ["c", "ä", "7"]),
    ],
    ids=str,
)
def test_ids_keep_their_type(
    server: EmulatorServer, tmp_path: Path, kind: pa.DataType, ids: list[Any]
) -> None:
    table = pa.table({"id": pa.array(ids, kind), "text": ["x", "y", None]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert run(server.url, tmp_path / "a.parquet", tmp_path / "out", "--dim", 128).code == 0
    assert read(tmp_path / "out").schema.field("id").type == kind
    assert read(tmp_path / "out")["id"].to_pylist() == ids[:2]
    dead = read(tmp_path / "out", "dead_letters")
    assert dead.schema.field("id").type == kind
    assert dead["id"].to_pylist() == ids[2:]


def test_columns_are_carried_over_with_their_types(server: EmulatorServer, tmp_path: Path) -> None:
    kept = pa.table(
        {
            "when": pa.array([1, None, 3], pa.timestamp("us", "UTC")),
            "tags": pa.array([["a"], [], None], pa.list_(pa.string())),
            "price": pa.array([1, 2, None], pa.decimal128(9, 2)),
            "flag": [True, None, False],
        }
    )
    table = pa.table({"id": [1, 2, 3], "text": ["x", "y", "z"]})
    for name in kept.column_names:
        table = table.append_column(name, kept[name])
    pq.write_table(table, tmp_path / "a.parquet")
    for flag, names in (("*", ["text", *kept.column_names]), ("flag,when", ["flag", "when"])):
        output = tmp_path / f"out-{len(names)}"
        args = ("--dim", 128, "--keep-columns", flag)
        assert run(server.url, tmp_path / "a.parquet", output, *args).code == 0
        found = read(output)
        assert found.schema.names == ["id", "vector", *names, *COLUMNS[2:]]
        assert found.select(names).equals(table.select(names))


def test_a_template_makes_the_text_and_titles_are_sent_beside_it(
    server: EmulatorServer, tmp_path: Path
) -> None:
    pq.write_table(
        pa.table({"id": [1, 2], "title": ["Cats", None], "body": ["They purr.", "No title."]}),
        tmp_path / "a.parquet",
    )
    one, two = tmp_path / "one", tmp_path / "two"
    args = ("--dim", 128, "--no-normalize")
    template = ("--text-template", "{title}: {body}{{}}")
    assert run(server.url, tmp_path / "a.parquet", one, *args, *template).code == 0
    alone = [
        asked_alone(server.url, text, outputDimensionality=128)
        for text in ("Cats: They purr.{}", ": No title.{}")
    ]
    assert np.array_equal(matrix(read(one)), np.stack(alone))
    titles = ("--text-column", "body", "--title-column", "title")
    assert run(server.url, tmp_path / "a.parquet", two, *args, *titles).code == 0
    alone = [
        asked_alone(server.url, "They purr.", outputDimensionality=128, title="Cats"),
        asked_alone(server.url, "No title.", outputDimensionality=128),
    ]
    assert np.array_equal(matrix(read(two)), np.stack(alone))
    hashes = [sent_hash("They purr.", "Cats"), sent_hash("No title.")]
    assert read(two)["text_hash"].to_pylist() == hashes


def test_gemini_embedding_2_gets_its_task_before_the_text_and_a_vector_a_text(
    server: EmulatorServer, tmp_path: Path
) -> None:
    write_rows(tmp_path / "a.parquet", ["x", "y"])
    args = ("--model", "gemini-embedding-2", "--task-type", "CLUSTERING", "--dim", 128)
    assert run(server.url, tmp_path / "a.parquet", tmp_path / "out", *args).code == 0
    sent = [f"task: clustering | query: {text}" for text in ("x", "y")]
    alone = [
        asked_alone(server.url, t, "gemini-embedding-2", taskType=None, outputDimensionality=128)
        for t in sent
    ]
    assert np.array_equal(matrix(read(tmp_path / "out")), np.stack(alone))
    assert read(tmp_path / "out")["text_hash"].to_pylist() == [sent_hash(text) for text in sent]
    metadata = pq.read_schema(parts(tmp_path / "out", "vectors")[0]).metadata
    assert metadata[b"bulkembed.prefix"] == b"task: clustering | query: "


def test_generated_ids_are_path_and_row(server: EmulatorServer, tmp_path: Path) -> None:
    for name in ("a/x.parquet", "b/x.parquet"):
        write_rows(tmp_path / "in" / name, ["one", "two"])
    args = ("--dim", 128, "--generate-ids")
    assert run(server.url, tmp_path / "in", tmp_path / "out", *args).code == 0
    assert read(tmp_path / "out")["id"].to_pylist() == [
        "a/x.parquet#0", "a/x.parquet#1", "b/x.parquet#0", "b/x.parquet#1",
    ]  # fmt: skip


def test_equal_ids_are_kept_and_counted(server: EmulatorServer, tmp_path: Path) -> None:
    ids = [1, 1, 2, -1, -2, 1]
    pq.write_table(pa.table({"id": ids, "text": list("abcde ")}), tmp_path / "a.parquet")
    ended = run(server.url, tmp_path / "a.parquet", tmp_path / "out", "--dim", 128)
    assert ended.code == 0
    assert read(tmp_path / "out")["id"].to_pylist() == ids[:5]
    assert summary(tmp_path / "out")["duplicate_ids"] == 2
    assert "2 rows with the id of an earlier row" in ended.out


def test_equal_texts_of_a_unit_are_sent_once(server: EmulatorServer, tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", ["same", "other", "same", "same"])
    assert run(server.url, tmp_path / "a.parquet", tmp_path / "out", "--dim", 128).code == 0
    assert server.stats()["texts"] == 2
    vectors = matrix(read(tmp_path / "out"))
    assert np.array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])


@pytest.mark.parametrize(("dim", "unit"), [(768, False), (3072, True)])
def test_without_normalising_shorter_vectors_of_001_are_as_the_service_gives_them(
    server: EmulatorServer, tmp_path: Path, dim: int, unit: bool
) -> None:
    write_rows(tmp_path / "a.parquet", ["x", "yy"])
    for flag in ("--normalize", "--no-normalize"):
        output = tmp_path / flag
        assert run(server.url, tmp_path / "a.parquet", output, "--dim", dim, flag).code == 0
        norms = np.linalg.norm(matrix(read(output)), axis=1)
        assert np.allclose(norms, 1, atol=1e-5) is (unit or flag == "--normalize")


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("encoding", ["plain", "byte_stream_split"])
def test_vectors_may_be_written_smaller(
    server: EmulatorServer, tmp_path: Path, kind: str, encoding: str
) -> None:
    write_rows(tmp_path / "a.parquet", ["x", "yy"])
    args = ("--vector-type", kind, "--vector-encoding", encoding)
    assert run(server.url, tmp_path / "a.parquet", tmp_path / "out", *args).code == 0
    table = read(tmp_path / "out")
    assert str(table.schema.field("vector").type.value_type).replace("half", "") in (
        "float", "float16",
    )  # fmt: skip
    alone = np.stack([asked_alone(server.url, text) for text in ("x", "yy")])
    assert np.array_equal(matrix(table), alone.astype(kind).astype(np.float32))
    column = pq.ParquetFile(parts(tmp_path / "out", "vectors")[0]).metadata.row_group(0).column(1)
    assert ("BYTE_STREAM_SPLIT" in column.encodings) is (encoding == "byte_stream_split")
