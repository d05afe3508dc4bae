"""Exports whose columns look different than those of the first run, but contradict nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import Ended, bulkembed, parts, read, run

from bulkembed.emulator.server import EmulatorServer

pytestmark = pytest.mark.faults

Rows = list[dict[str, Any]]
ALL = ("--keep-columns", "*")
FIRST: Rows = [
    {"id": 1, "text": "a dog", "price": 1, "size": 1.5, "tags": ["a"], "at": {"x": 1, "y": "b"}},
    {"id": 2, "text": "a cat", "price": 2, "size": None, "tags": None, "at": None},
]
NAMES = ["price", "size", "tags", "at"]


def export(folder: Path, name: str, rows: Rows, schema: pa.Schema | None = None) -> None:
    """Write the rows as the only file of a folder: JSON lines, or Parquet if there is a schema."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    if schema is None:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{name}.parquet")


def go(server: EmulatorServer, tmp_path: Path, kind: str, *args: object) -> Ended:
    how = ("--sync", "--max-delete", "100%") if kind == "sync" else ("--prune", "--max-delete=100%")
    return run(server.url, tmp_path / "in", tmp_path / "out", "--dim", 128, *how, *args)


def row(number: int = 3, **values: Any) -> dict[str, Any]:
    return {"id": number, "text": f"text {number}", **dict.fromkeys(NAMES), **values}


KINDS = pytest.mark.parametrize("kind", ["sync", "files"])
FITTING = {
    "no rows": [],
    "all null": [row()],
    "keys left out": [{"id": 3, "text": "text 3"}],
    "another order": [dict(reversed(row(price=3, size=0.5, tags=["b"]).items()))],
    "whole numbers where fractions were": [row(size=2)],
    "a field less": [row(at={"y": "c"})],
    "an empty list": [row(tags=[])],
}
OTHER = {
    "fractions where whole numbers were": [row(price=1.5)],
    "a new column": [row(colour="red")],
    "a new field": [row(at={"z": 1})],
    "another type": [row(tags=5)],
}


@pytest.mark.parametrize("rows", FITTING.values(), ids=FITTING)
@pytest.mark.parametrize(
    ("kind", "keep"), [("sync", ALL), ("files", ("--keep-columns", ",".join(NAMES)))]
)
def test_rows_that_fit_the_columns_of_the_dataset_are_accepted(
    server: EmulatorServer, tmp_path: Path, kind: str, rows: Rows, keep: tuple[str, ...]
) -> None:
    export(tmp_path / "in", "a", FIRST)
    assert go(server, tmp_path, kind, *keep).code == 0
    schema = pq.read_schema(parts(tmp_path / "out", "vectors")[0])
    export(tmp_path / "in", "b", [*FIRST[:1], *rows] if rows else [])
    ended = go(server, tmp_path, kind, *keep)
    assert ended.code == 0, ended.err
    export(tmp_path / "in", "c", rows)
    ended = go(server, tmp_path, kind, *keep)
    assert ended.code == 0, ended.err
    assert {
        str(pq.read_schema(part).remove_metadata()) for part in parts(tmp_path / "out", "vectors")
    } == {str(schema.remove_metadata())}
    assert read(tmp_path / "out").select(NAMES).to_pylist() == [
        {name: _written(one.get(name)) for name in NAMES} for one in rows
    ]
    assert server.stats()["texts"] == (3 if rows else 2)
    verified = bulkembed("verify", tmp_path / "out", "--against", tmp_path / "in")
    assert verified.code == 0, verified.out


def _written(value: Any) -> Any:
    return {"x": None, **value} if isinstance(value, dict) else value


@KINDS
@pytest.mark.parametrize("rows", OTHER.values(), ids=OTHER)
def test_rows_that_do_not_fit_are_refused(
    server: EmulatorServer, tmp_path: Path, kind: str, rows: Rows
) -> None:
    export(tmp_path / "in", "a", FIRST)
    assert go(server, tmp_path, kind, *ALL).code == 0
    export(tmp_path / "in", "b", rows)
    ended = go(server, tmp_path, kind, *ALL)
    assert ended.code == 2
    assert f"--reuse {tmp_path}/out" in ended.last
    assert server.stats()["texts"] == 2


WORDS = pa.dictionary(pa.int8(), pa.string())
PARQUET = pa.schema(
    {"id": pa.int64(), "text": pa.string(), "price": pa.int64(), "lang": pa.string()}
)


@KINDS
@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        pytest.param(pa.schema([PARQUET.field(n) for n in (3, 1, 0, 2)]), True, id="order"),
        pytest.param(PARQUET.set(2, pa.field("price", pa.int32())), True, id="narrower"),
        pytest.param(PARQUET.set(0, pa.field("id", pa.int32())), True, id="narrower id"),
        pytest.param(PARQUET.set(2, pa.field("price", pa.null())), True, id="null"),
        pytest.param(PARQUET.set(3, pa.field("lang", WORDS)), True, id="dictionary"),
        pytest.param(PARQUET.set(2, pa.field("price", pa.uint64())), False, id="unsigned"),
        pytest.param(PARQUET.set(2, pa.field("price", pa.string())), False, id="string"),
        pytest.param(PARQUET.remove(3), False, id="column less"),
        pytest.param(PARQUET.append(pa.field("more", pa.int8())), False, id="column more"),
    ],
)  # fmt: skip
def test_declared_types_are_accepted_if_the_column_holds_their_values(
    server: EmulatorServer, tmp_path: Path, kind: str, schema: pa.Schema, fits: bool
) -> None:
    rows: Rows = [{"id": n, "text": f"text {n}", "price": n, "lang": "de"} for n in range(3)]
    export(tmp_path / "in", "a", rows, PARQUET)
    assert go(server, tmp_path, kind, *ALL).code == 0
    later = {name: (None if schema.field(name).type == pa.null() else 7) for name in schema.names}
    if "price" in later and schema.field("price").type == pa.string():
        later["price"] = "7"
    later |= {"text": "text 7"} | ({"lang": "de"} if "lang" in later else {})
    export(tmp_path / "in", "b", [later], schema)
    ended = go(server, tmp_path, kind, *ALL)
    assert ended.code == (0 if fits else 2), ended.err
    if fits:
        table = read(tmp_path / "out")
        assert table["price"].to_pylist() == [later["price"]]
        assert table["id"].type == table["price"].type == pa.int64()
    export(tmp_path / "in", "c", [], PARQUET.remove(3))
    assert go(server, tmp_path, kind, *ALL).code == 0
    assert not read(tmp_path / "out").num_rows


def test_ids_keep_their_type_in_an_export_without_rows_or_with_smaller_numbers(
    server: EmulatorServer, tmp_path: Path
) -> None:
    big: Rows = [{"id": 2**63 + 1, "text": "a dog"}, {"id": 5, "text": "a cat"}]
    for rows in (big, [], big[1:], big):
        export(tmp_path / "in", f"n{len(rows)}", rows)
        ended = go(server, tmp_path, "sync")
        assert ended.code == 0, ended.err
    assert sorted(read(tmp_path / "out")["id"].to_pylist()) == [5, 2**63 + 1]
    export(tmp_path / "in", "b", [{"id": -1, "text": "a bird"}])
    assert go(server, tmp_path, "sync").code == 2


def test_the_guard_of_deletes_sees_an_export_without_rows(
    server: EmulatorServer, tmp_path: Path
) -> None:
    args = ("--dim", 128, "--sync", *ALL)
    export(tmp_path / "in", "a", FIRST)
    assert run(server.url, tmp_path / "in", tmp_path / "out", *args).code == 0
    export(tmp_path / "in", "b", [])
    ended = run(server.url, tmp_path / "in", tmp_path / "out", *args)
    assert ended.code == 3, ended.err
    assert "would delete 2 of 2 rows" in ended.last
