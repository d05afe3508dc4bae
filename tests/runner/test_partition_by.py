"""`--partition-by`: vectors in hive partitions by the values of a kept column."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support.cli import Ended, bulkembed, run, snapshot, write_rows
from support.damage import findings
from support.killing import leftovers

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = pytest.mark.faults

LANGS = ["de", "en", "fr"]
TEXTS = [f"text {n}" for n in range(30)]
ODD = [
    "plain", "a b", "a/b", "ä", "日本", "x=y", "50%", "%41", "a+b", "C:\\x", "q?#&", "'\"{}[]^*",
    "line\nbreak", "dot.", "007", "", "x" * 200,
]  # fmt: skip


def go(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    more = ("--dim", 128, "--unit-rows", 7, "--keep-columns", "lang")
    return run(server.url, source, output, *more, *args)


def by_lang(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    ended = go(server, source, output, "--partition-by", "lang", *args)
    assert ended.code == 0, ended.err
    return ended


def loaded(output: Path) -> dict[Any, tuple[Any, bytes]]:
    """The language and the vector by id, as a reader of hive partitions finds them."""
    schema = ds.partitioning(pa.schema([("lang", pa.string())]), flavor="hive")
    table = ds.dataset(output / "vectors", partitioning=schema).to_table()
    assert table.num_rows == len(set(table["id"].to_pylist()))
    vectors = [np.array(one, np.float32).tobytes() for one in table["vector"].to_pylist()]
    langs = table["lang"].to_pylist()
    return dict(zip(table["id"].to_pylist(), zip(langs, vectors, strict=True), strict=True))


def folders(output: Path) -> list[str]:
    return sorted({path.parent.name for path in output.glob("vectors/*/*.parquet")})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_rows(tmp_path / "in/a.parquet", TEXTS, lang=LANGS * 10)
    return tmp_path / "in"


@pytest.fixture
def flat(server: EmulatorServer, source: Path, tmp_path: Path) -> Path:
    """The same dataset without partitions."""
    assert go(server, source, tmp_path / "flat").code == 0
    return tmp_path / "flat"


def same_rows(output: Path, flat: Path) -> bool:
    table = pq.read_table(flat / "vectors", partitioning=None)
    vectors = [np.array(one, np.float32).tobytes() for one in table["vector"].to_pylist()]
    rows = zip(table["lang"].to_pylist(), vectors, strict=True)
    return loaded(output) == dict(zip(table["id"].to_pylist(), rows, strict=True))


def test_rows_are_in_the_folders_of_their_values_without_the_column(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    by_lang(server, source, output)
    assert folders(output) == ["lang=de", "lang=en", "lang=fr"]
    assert not [*output.glob("vectors/*.parquet")]
    found = loaded(output)
    assert {one: lang for one, (lang, _) in found.items()} == dict(
        zip(range(30), LANGS * 10, strict=True)
    )
    for path in output.glob("vectors/*/*.parquet"):
        assert "lang" not in pq.read_schema(path).names
    assert findings(output.parent, "--against", source) == []
    for args in (("status",), ("report",), ("verify", "--against", source, "--sample", 5)):
        ended = bulkembed(args[0], output, *args[1:], *_service(args[0], server))
        assert ended.code == 0, ended.err


def test_the_vectors_of_either_layout_are_reused_for_the_other(
    server: EmulatorServer, source: Path, flat: Path, output: Path, tmp_path: Path
) -> None:
    ended = go(server, source, flat, "--partition-by", "lang")
    assert ended.code == 2
    assert "partition_by is not set in the dataset and 'lang' in this run" in ended.last
    assert ended.last.endswith(f"--partition-by lang --reuse {flat}")
    by_lang(server, source, output, "--reuse", flat)
    assert same_rows(output, flat)
    ended = go(server, source, output)
    assert (ended.code, "--reuse" in ended.last) == (2, True)
    assert go(server, source, tmp_path / "back", "--reuse", output).code == 0
    assert same_rows(output, tmp_path / "back")
    assert server.stats()["texts"] == 30


def test_a_stopped_run_is_resumed(
    server: EmulatorServer, source: Path, flat: Path, output: Path
) -> None:
    by_lang(server, source, output, "--limit-rows", 10)
    assert len(loaded(output)) == 10
    paid = server.stats()["texts"]
    by_lang(server, source, output)
    assert server.stats()["texts"] == paid + 20
    assert same_rows(output, flat)
    before = snapshot(output / "vectors")
    by_lang(server, source, output)
    assert snapshot(output / "vectors") == before


def test_parts_without_a_record_are_deleted_and_written_again(
    server: EmulatorServer, source: Path, flat: Path, output: Path
) -> None:
    by_lang(server, source, output)
    for path in sorted(output.glob("_run/units/*.json"))[:2]:
        path.unlink()
    (output / "_SUCCESS").unlink()
    (output / "vectors/lang=de/.tmp-1-part.parquet").write_bytes(b"half")
    by_lang(server, source, output)
    assert same_rows(output, flat)
    assert leftovers(output) == []
    assert findings(output.parent) == []


def test_a_damaged_part_is_found_and_its_unit_embedded_again(
    server: EmulatorServer, source: Path, flat: Path, output: Path
) -> None:
    by_lang(server, source, output)
    part = sorted(output.glob("vectors/lang=en/*.parquet"))[1]
    part.write_bytes(part.read_bytes()[:100])
    assert str(part.relative_to(output)) in bulkembed("verify", output).out
    repaired = bulkembed("verify", output, "--repair")
    assert f"{part.relative_to(output)}: moved to" in repaired.out
    by_lang(server, source, output)
    assert same_rows(output, flat)
    assert findings(output.parent, "--against", source) == []


def test_lost_records_are_rebuilt_from_the_parts(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    by_lang(server, source, output)
    before, paid = loaded(output), server.stats()["texts"]
    for path in output.glob("_run/units/*.json"):
        path.write_bytes(b"{}")
    bulkembed("verify", output, "--repair")
    assert findings(output.parent, "--against", source) == []
    by_lang(server, source, output)
    assert loaded(output) == before
    assert server.stats()["texts"] == paid


def test_the_lost_record_of_merged_parts_is_rebuilt(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    by_lang(server, source, output)
    assert bulkembed("compact", output).code == 0
    before, paid = loaded(output), server.stats()["texts"]
    (record,) = output.glob("_run/units/group-*.json")
    content = record.read_bytes()
    record.unlink()
    assert "rebuilt from its parts" in bulkembed("verify", output, "--repair").out
    assert record.read_bytes() == content
    (output / "_SUCCESS").unlink(missing_ok=True)
    by_lang(server, source, output)
    assert loaded(output) == before
    assert server.stats()["texts"] == paid


def test_a_damaged_merged_part_costs_only_the_units_in_it(
    server: EmulatorServer, tmp_path: Path, output: Path
) -> None:
    write_rows(tmp_path / "in/a.parquet", TEXTS, lang=["de"] * 14 + ["en"] * 16)
    by_lang(server, tmp_path / "in", output)
    assert bulkembed("compact", output).code == 0
    before = loaded(output)
    (part,) = output.glob("vectors/lang=de/*.parquet")
    data = bytearray(part.read_bytes())
    data[1000:1100] = bytes(100)
    part.write_bytes(data)
    repaired = bulkembed("verify", output, "--repair").out
    assert "written with 3 units that can be read" in repaired
    by_lang(server, tmp_path / "in", output)
    assert loaded(output) == before
    assert server.stats()["texts"] == 30 + 14
    assert findings(tmp_path, "--against", tmp_path / "in") == []


def test_a_changed_file_costs_its_new_texts_and_moves_rows_between_partitions(
    server: EmulatorServer, source: Path, output: Path, tmp_path: Path
) -> None:
    by_lang(server, source, output)
    texts = ["text 0, edited", *TEXTS[1:], "new"]
    langs = ["de", "es", *(LANGS * 10)[2:], "en"]
    write_rows(source / "a.parquet", texts, lang=langs)
    ended = by_lang(server, source, output)
    assert "1 added, 2 changed, 0 deleted" in ended.out
    assert server.stats()["texts"] == 32
    rows = [
        json.loads(line)
        for line in bulkembed(
            "changes", output, "--format", "jsonl", "--with-vectors"
        ).out.splitlines()
    ]
    assert {(row["id"], row["change"], row["vector_changed"], row["lang"]) for row in rows} == {
        (0, "changed", True, "de"),
        (1, "changed", False, "es"),
        (30, "added", True, "en"),
    }
    for row in rows:
        at = pq.read_table(output / row["part"], partitioning=None).slice(row["row"], 1)
        assert at["id"].to_pylist() == [row["id"]]
        assert f"lang={row['lang']}/" in row["part"]
    assert go(server, source, tmp_path / "flat", "--reuse", output).code == 0
    assert same_rows(output, tmp_path / "flat")


def test_a_compaction_merges_within_each_partition(
    server: EmulatorServer, source: Path, flat: Path, output: Path
) -> None:
    by_lang(server, source, output)
    assert len([*output.glob("vectors/*/*.parquet")]) == 14
    first = bulkembed("search", output, "text 4", "--base-url", server.url, "--json")
    ended = bulkembed("compact", output)
    assert ended.code == 0, ended.err
    assert len([*output.glob("vectors/*/*.parquet")]) == 3
    assert same_rows(output, flat)
    assert findings(output.parent, "--against", source) == []
    assert leftovers(output) == []
    assert "nothing to merge" in bulkembed("compact", output).out
    again = bulkembed("search", output, "text 4", "--base-url", server.url, "--json")
    assert [row for row in _rows(again)] == [row for row in _rows(first)]
    # Rows of one unit of the group are removed, and others come.
    write_rows(source / "b.parquet", ["b"], lang=["de"], id=[100])
    by_lang(server, source, output)
    (source / "b.parquet").unlink()
    by_lang(server, source, output, "--prune", "--target-file-size", "256MB")
    assert same_rows(output, flat)
    assert findings(output.parent, "--against", source) == []


def _service(command: str, server: EmulatorServer) -> tuple[str, ...]:
    return ("--base-url", server.url) if command == "verify" else ()


def _rows(ended: Ended) -> list[Any]:
    assert ended.code == 0, ended.err
    rows = json.loads(ended.out)["rows"]
    return [(row["id"], row["lang"], round(row["score"], 5)) for row in rows]


def test_a_synchronised_dataset_is_partitioned(
    server: EmulatorServer, source: Path, output: Path, tmp_path: Path
) -> None:
    sync = ("--sync", "--max-delete", "50%")
    by_lang(server, source, output, *sync)
    for night in range(1, 5):
        kept = [n for n in range(30) if n % 7 != night]
        write_rows(
            source / "a.parquet",
            [f"text {n}{' again' * (n % 5 == night)}" for n in kept],
            lang=[[*LANGS, None][(n + night) % 4] if n % 2 else LANGS[n % 3] for n in kept],
            id=kept,
        )
        by_lang(server, source, output, *sync)
        if night % 2:
            assert bulkembed("compact", output).code == 0
        assert findings(output.parent, "--against", source) == []
        assert leftovers(output) == []
        new = tmp_path / f"flat-{night}"
        assert go(server, source, new, "--reuse", output).code == 0
        assert same_rows(output, new)
    paid, before = server.stats()["texts"], snapshot(output / "vectors")
    by_lang(server, source, output, *sync)
    assert server.stats()["texts"] == paid
    assert snapshot(output / "vectors") == before


def test_failed_rows_are_retried_into_their_partitions(
    source: Path, output: Path, tmp_path: Path
) -> None:
    with EmulatorServer(EmulatorSettings(poison="text 1")) as server:
        by_lang(server, source, output, "--max-dead-letters", "100%")
        assert len(loaded(output)) < 30
    with EmulatorServer() as server:
        by_lang(server, source, output, "--retry-failed")
        assert len(loaded(output)) == 30
        assert findings(output.parent, "--against", source) == []
        assert bulkembed("compact", output).code == 0
        assert len([*output.glob("vectors/*/*.parquet")]) == 3
        assert go(server, source, tmp_path / "flat").code == 0
        assert same_rows(output, tmp_path / "flat")


def test_odd_values_and_null_are_read_as_they_are(
    server: EmulatorServer, tmp_path: Path, output: Path
) -> None:
    values = [*ODD, None]
    texts = [f"text {n}" for n in range(len(values))]
    write_rows(tmp_path / "in/a.parquet", texts, lang=values)
    by_lang(server, tmp_path / "in", output, "--unit-rows", 100)
    want = dict(enumerate(values))
    files = f"{output}/vectors/*/*.parquet"
    listed = bulkembed("parts", output).out.splitlines()
    query = (
        "SELECT id, lang FROM read_parquet(?, hive_partitioning = true, "
        "hive_types = {'lang': VARCHAR})"
    )
    found = {
        "duckdb, listed": dict(duckdb.execute(query, [listed]).fetchall()),
        "polars, listed": dict(
            pl.scan_parquet(listed, hive_partitioning=True, hive_schema={"lang": pl.String})
            .select("id", "lang")
            .collect()
            .iter_rows()
        ),
        "pyarrow": {one: lang for one, (lang, _) in loaded(output).items()},
        "duckdb": dict(duckdb.execute(query, [files]).fetchall()),
        "polars": dict(
            pl.scan_parquet(files, hive_partitioning=True, hive_schema={"lang": pl.String})
            .select("id", "lang")
            .collect()
            .iter_rows()
        ),
    }
    for reader, langs in found.items():
        assert langs == want, reader
    assert (output / "vectors/lang=__HIVE_DEFAULT_PARTITION__").exists()
    assert findings(tmp_path, "--against", tmp_path / "in") == []
    # bulkembed finds the values exactly: nothing has changed.
    again = by_lang(server, tmp_path / "in", tmp_path / "other", "--sync", "--reuse", output)
    assert again.code == 0
    write_rows(tmp_path / "in/b.parquet", ["more"], lang=["x"], id=[1000])
    ended = by_lang(server, tmp_path / "in", tmp_path / "other", "--sync")
    assert "1 added, 0 changed, 0 deleted" in ended.out


@pytest.mark.parametrize(
    ("values", "names"),
    [
        pytest.param(pa.array([1, -2], pa.int64()), ["k=-2", "k=1"], id="int"),
        pytest.param(pa.array([True, False]), ["k=false", "k=true"], id="bool"),
        pytest.param(pa.array([dt.date(2024, 1, 31)] * 2), ["k=2024-01-31"], id="date"),
        pytest.param(pa.array(["a", "b"], pa.large_string()), ["k=a", "k=b"], id="large-string"),
        pytest.param(pa.array(["a", "b"]).dictionary_encode(), ["k=a", "k=b"], id="dictionary"),
    ],
)
def test_integers_booleans_and_dates_are_partitions(
    server: EmulatorServer, tmp_path: Path, output: Path, values: pa.Array, names: list[str]
) -> None:
    (tmp_path / "in").mkdir()
    table = pa.table({"id": [1, 2], "text": ["a", "b"], "k": values})
    pq.write_table(table, tmp_path / "in/a.parquet")
    args = ("--dim", 128, "--keep-columns", "k", "--partition-by", "k", "--sync")
    ended = run(server.url, tmp_path / "in", output, *args)
    assert ended.code == 0, ended.err
    assert folders(output) == names
    assert findings(tmp_path, "--against", tmp_path / "in") == []
    table = table.append_column("more", pa.array([1, 2]))
    pq.write_table(table, tmp_path / "in/a.parquet")
    before = snapshot(output / "vectors")
    ended = run(server.url, tmp_path / "in", output, *args)
    assert ended.code == 0, ended.err
    assert snapshot(output / "vectors") == before


def test_keys_of_folders_of_the_input_are_partitions_of_the_output(
    server: EmulatorServer, tmp_path: Path, output: Path
) -> None:
    for lang in LANGS:
        write_rows(tmp_path / f"in/lang={lang}/a.parquet", [f"text in {lang}"])
    by_lang(server, tmp_path / "in", output)
    assert folders(output) == ["lang=de", "lang=en", "lang=fr"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param(("--partition-by", "lung"), "is no kept column", id="not-kept"),
        pytest.param(("--partition-by", "id"), "is no kept column", id="id"),
        pytest.param(("--partition-by", "text", "--keep-columns", "text"), "texts", id="text"),
        pytest.param(("--partition-by", "x", "--keep-columns", "x"), "type double", id="double"),
        pytest.param(("--partition-by", "_y", "--keep-columns", "_y"), "begin with _", id="name"),
    ],
)
def test_a_column_that_cannot_be_partitions_is_rejected_before_anything_is_sent(
    server: EmulatorServer, tmp_path: Path, output: Path, args: tuple[str, ...], said: str
) -> None:
    path = write_rows(tmp_path / "in/a.parquet", ["a"], lang=["de"], x=[1.5], _y=["a"])
    ended = go(server, path, output, *args)
    assert ended.code == 2
    assert said in ended.last
    assert server.stats()["texts"] == 0


def test_too_many_partitions_are_rejected(
    server: EmulatorServer, tmp_path: Path, output: Path
) -> None:
    texts = [f"text {n}" for n in range(300)]
    path = write_rows(tmp_path / "in/a.parquet", texts, lang=[str(n) for n in range(300)])
    ended = go(server, path, output, "--partition-by", "lang", "--unit-rows", 300)
    assert ended.code != 0
    assert "300 values of 'lang'" in ended.last
    assert server.stats()["texts"] == 0
    path = write_rows(tmp_path / "in/a.parquet", ["a"], lang=["x" * 300])
    ended = go(server, path, output, "--partition-by", "lang")
    assert "255 bytes" in ended.last


def test_an_overwrite_with_another_partitioning_leaves_no_folder_of_the_old_one(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    by_lang(server, source, output)
    assert go(server, source, output, "--overwrite").code == 0
    assert [path.suffix for path in (output / "vectors").iterdir()] == [".parquet"] * 5
    by_lang(server, source, output, "--overwrite")
    assert sorted(path.name for path in (output / "vectors").iterdir()) == folders(output)
    assert findings(output.parent, "--against", source) == []


def test_several_workers_write_the_partitions_of_one_run(
    server: EmulatorServer, source: Path, flat: Path, output: Path
) -> None:
    by_lang(server, source, output, "--workers", 2, "--target-file-size", "256MB")
    assert same_rows(output, flat)
    assert len([*output.glob("vectors/*/*.parquet")]) == 3


def test_passages_are_in_the_partition_of_their_row(
    server: EmulatorServer, tmp_path: Path, output: Path
) -> None:
    texts = [f"{n} " + "word " * 40 for n in range(9)]
    write_rows(tmp_path / "in/a.parquet", texts, lang=LANGS * 3)
    args = ("--long-text", "passages", "--passage-tokens", 20, "--sync", "--max-delete", "50%")
    by_lang(server, tmp_path / "in", output, *args)
    assert bulkembed("compact", output).code == 0
    write_rows(tmp_path / "in/a.parquet", texts[:6], lang=[*LANGS, *LANGS[::-1]])
    by_lang(server, tmp_path / "in", output, *args)
    table = ds.dataset(output / "vectors", partitioning="hive").to_table()
    found = set(zip(table["id"].to_pylist(), table["lang"].to_pylist(), strict=True))
    assert found == set(enumerate([*LANGS, *LANGS[::-1]]))
    assert findings(tmp_path, "--against", tmp_path / "in") == []


def test_a_renamed_file_is_refused_or_pruned(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    write_rows(source / "b.parquet", [f"b {n}" for n in range(9)], lang=LANGS * 3, id=range(50, 59))
    by_lang(server, source, output)
    (source / "b.parquet").rename(source / "c.parquet")
    ended = go(server, source, output, "--partition-by", "lang")
    assert ended.code == 2
    assert "9 of their 9 ids" in ended.last
    by_lang(server, source, output, "--prune")
    assert len(loaded(output)) == 39
    assert findings(output.parent, "--against", source) == []


def test_a_dataset_without_vectors_has_the_column(
    server: EmulatorServer, tmp_path: Path, output: Path
) -> None:
    path = write_rows(tmp_path / "in/a.parquet", [""], lang=["de"])
    by_lang(server, path, output)
    assert "lang" in pq.read_schema(output / "vectors/empty.parquet").names
    write_rows(tmp_path / "in/b.parquet", ["a"], lang=["de"], id=[7])
    by_lang(server, tmp_path / "in", output)
    assert [one for one in loaded(output)] == [7]
