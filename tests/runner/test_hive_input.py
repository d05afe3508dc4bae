"""Hive keys of input folders through whole runs and the other commands."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import bulkembed, dead_codes, parts, read, run

from bulkembed.emulator.server import EmulatorServer


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for at, lang in enumerate(("de", "en", "__HIVE_DEFAULT_PARTITION__")):
        path = folder / f"dt=2024-01-0{at + 1}/lang={lang}"
        path.mkdir(parents=True)
        table = pa.table({"id": [2 * at, 2 * at + 1], "text": [f"a dog {at}", f"a cat {at}"]})
        pq.write_table(table, path / "part-0.parquet")
    (folder / "dt=2024-01-04/lang=fr").mkdir(parents=True)
    (folder / "dt=2024-01-04/lang=fr/a.jsonl").write_text('{"id": 9, "text": "shares fell"}\n')
    return folder


@pytest.mark.parametrize("keep", ["dt,lang", "*"])
def test_hive_keys_through_run_verify_search_retry_and_report(
    tmp_path: Path, source: Path, server: EmulatorServer, keep: str
) -> None:
    output = tmp_path / "out"
    flags = ("--keep-columns", keep, "--text-template", "{lang} {text}", "--dim", 128)
    assert json.loads(bulkembed("estimate", "--input", source, *flags, "--json").out)
    assert run(server.url, source, output, *flags, "--unit-rows", 1).code == 0
    table = read(output)
    assert table["lang"].to_pylist() == ["de", "de", "en", "en", None, None, "fr"]
    assert [str(day) for day in table["dt"].to_pylist()][::3] == [
        "2024-01-01", "2024-01-02", "2024-01-04",
    ]  # fmt: skip
    service = ("--base-url", server.url)
    verified = bulkembed("verify", output, "--against", source, "--sample", 7, *service)
    assert verified.code == 0, verified.out
    found = json.loads(bulkembed("search", output, "a dog", "--json", *service).out)
    assert {row["lang"] for row in found["rows"]} == {"de", "en", "fr", None}
    before = parts(output, "vectors")
    again = run(server.url, source, output, *flags, "--unit-rows", 1)
    assert again.code == 0, again.err
    assert parts(output, "vectors") == before
    assert run(server.url, source, output, *flags, "--retry-failed").code == 0
    assert bulkembed("report", output).code == 0


def test_a_later_folder_with_another_kind_of_value_keeps_the_type_of_the_column(
    tmp_path: Path, source: Path
) -> None:
    output = tmp_path / "out"
    flags = ("--keep-columns", "dt", "--dim", 128)
    assert run(None, source, output, *flags).code == 0
    (source / "dt=unknown").mkdir()
    (source / "dt=unknown/b.jsonl").write_text('{"id": 10, "text": "rain"}\n')
    ended = run(None, source, output, *flags)
    assert ended.code == 0, ended.err
    assert read(output)["dt"].to_pylist()[-1] is None
    assert "'dt'" in ended.err
    assert dead_codes(output) == {}


def test_the_same_file_in_another_folder_above_the_pattern_is_another_input(
    tmp_path: Path, source: Path
) -> None:
    output = tmp_path / "out"
    flags = ("--keep-columns", "dt", "--dim", 128)
    day, other = source / "dt=2024-01-04", source / "dt=2024-01-05"
    assert run(None, f"{day}/**/*.jsonl", output, *flags).code == 0
    day.rename(other)
    ended = run(None, f"{other}/**/*.jsonl", output, *flags, "--prune")
    assert ended.code == 0, ended.err
    assert [str(one) for one in read(output)["dt"].to_pylist()] == ["2024-01-05"]
    assert bulkembed("verify", output, "--against", f"{other}/**/*.jsonl").code == 0
