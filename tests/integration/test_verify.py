"""`bulkembed verify`: a sound dataset passes, and each kind of damage is found out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.cli import bulkembed, parts, run, write_rows

from emulator.server import EmulatorServer
from emulator.settings import EmulatorSettings
from transforms.storage import output_lock
from transforms.storage.dataset import Dataset
from transforms.storage.output_lock import LockOwner
from transforms.storage.part_files import part_writer

ROWS = 30
UNIT_ROWS = 10


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `in/a.parquet` and `out`: three units, two dead letters, one blank row."""
    folder = tmp_path_factory.mktemp("verify")
    texts = [f"text {n} about {['cats', 'banks', 'rain'][n % 3]}" for n in range(ROWS)]
    texts[3], texts[4], texts[15] = "poison", "", "poison"
    write_rows(folder / "in/a.parquet", texts, lang=["en"] * ROWS)
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        ended = run(
            server.url, folder / "in", folder / "out", "--dim", 128, "--unit-rows", UNIT_ROWS,
            "--keep-columns", "lang",
        )  # fmt: skip
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def findings(place: Path, *args: object) -> list[tuple[str, str, str]]:
    shown = bulkembed("verify", place / "out", *args, "--json")
    report = json.loads(shown.out)
    assert shown.code == report["exit_code"] == bool(report["findings"])
    return [(f["check"], f["where"], f["message"]) for f in report["findings"]]


def first_part(place: Path, folder: str = "vectors") -> Path:
    return parts(place / "out", folder)[0]


def record(place: Path, at: int = 0) -> Path:
    return sorted((place / "out/_run/units").iterdir())[at]


def rewrite(part: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = change(pq.read_table(part))
    with pa.OSFile(str(part), "wb") as stream:
        part_writer(table)(stream)


def with_vectors(change: Callable[[Any], None]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        kind = table.schema.field("vector").type
        flat = table["vector"].combine_chunks().flatten().to_numpy().copy()
        change(flat.reshape(-1, kind.list_size))
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind)
        return table.set_column(1, table.schema.field("vector"), vectors)

    return changed


def with_column(name: str, change: Callable[[list[Any]], list[Any]]) -> Callable[..., pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        at, field = table.schema.get_field_index(name), table.schema.field(name)
        return table.set_column(at, field, pa.array(change(table[name].to_pylist()), field.type))

    return changed


def cut_short(place: Path) -> None:
    part = first_part(place)
    part.write_bytes(part.read_bytes()[:-40])


def overwritten_in_the_middle(place: Path) -> None:
    part = first_part(place, "dead_letters")
    data = bytearray(part.read_bytes())
    data[10:60] = bytes(50)
    part.write_bytes(data)


def a_part_is_deleted(place: Path) -> None:
    first_part(place).unlink()


def a_record_is_deleted(place: Path) -> None:
    record(place).unlink()


def a_record_is_cut_short(place: Path) -> None:
    record(place).write_bytes(record(place).read_bytes()[:50])


def a_record_has_another_name(place: Path) -> None:
    old = record(place)
    old.rename(old.with_name(old.name.replace("-d1-", "-d3-")))


def a_record_says_other_than_its_name(place: Path) -> None:
    old = record(place)
    old.rename(old.with_name(old.name.replace("-e8-d1-s1-", "-e7-d2-s1-")))


def a_record_is_there_twice(place: Path) -> None:
    old = record(place, 2)
    first = old.name.replace("000000000020-00000010", "000000000019-00000010")
    text = old.read_text().replace('"first_row":20', '"first_row":19')
    old.with_name(first).write_text(text)


def nan(place: Path) -> None:
    rewrite(first_part(place), with_vectors(lambda v: v.__setitem__((2, 5), np.nan)))


def infinity(place: Path) -> None:
    rewrite(first_part(place), with_vectors(lambda v: v.__setitem__((2, 5), np.inf)))


def a_vector_of_zeros(place: Path) -> None:
    rewrite(first_part(place), with_vectors(lambda v: v.__setitem__(3, 0)))


def a_vector_that_is_too_long(place: Path) -> None:
    rewrite(first_part(place), with_vectors(lambda v: v.__setitem__(3, v[3] * 1.01)))


def an_id_of_another_row(place: Path) -> None:
    rewrite(first_part(place), with_column("id", lambda ids: [ids[1], *ids[1:]]))


def a_row_less(place: Path) -> None:
    rewrite(first_part(place), lambda table: table.slice(1))


def a_row_twice(place: Path) -> None:
    rewrite(first_part(place), with_column("source_row", lambda rows: [rows[1], *rows[1:]]))


def rows_of_another_file(place: Path) -> None:
    rewrite(first_part(place), with_column("source_file", lambda names: ["b.parquet"] * len(names)))


def another_dead_letter(place: Path) -> None:
    rewrite(first_part(place, "dead_letters"), with_column("code", lambda codes: codes[:1] * 2))


def another_type_of_id(place: Path) -> None:
    rewrite(
        first_part(place),
        lambda table: table.set_column(0, "id", pc.cast(table["id"], pa.string())),
    )


def another_dim(place: Path) -> None:
    def shorter(table: pa.Table) -> pa.Table:
        flat = pa.array(np.ones(table.num_rows * 64, np.float32))
        return table.set_column(1, "vector", pa.FixedSizeListArray.from_arrays(flat, 64))

    rewrite(first_part(place), shorter)


def a_column_more(place: Path) -> None:
    rewrite(first_part(place), lambda t: t.append_column("more", pa.array([1] * t.num_rows)))


def a_footer_of_another_model(place: Path) -> None:
    def other(table: pa.Table) -> pa.Table:
        metadata = {**table.schema.metadata, b"bulkembed.model": b"embedding-001"}
        return table.replace_schema_metadata(metadata)

    rewrite(first_part(place), other)


def a_foreign_part(place: Path) -> None:
    shutil.copy(first_part(place), place / "out/vectors/mine.parquet")


def a_part_in_a_folder_below(place: Path) -> None:
    (place / "out/vectors/old").mkdir()
    shutil.copy(first_part(place), place / "out/vectors/old")


def an_unfinished_file(place: Path) -> None:
    (place / "out/_run/units/.tmp-1234-x.json").touch()


def no_success(place: Path) -> None:
    (place / "out/_SUCCESS").unlink()


DAMAGES = [
    pytest.param(cut_short, {"unreadable"}, id="cut-short"),
    pytest.param(overwritten_in_the_middle, {"unreadable"}, id="overwritten"),
    pytest.param(a_part_is_deleted, {"missing"}, id="part-deleted"),
    pytest.param(a_record_is_deleted, {"unfinished", "stranger"}, id="record-deleted"),
    pytest.param(a_record_is_cut_short, {"record"}, id="record-cut-short"),
    pytest.param(
        a_record_has_another_name, {"record", "unfinished", "stranger"}, id="record-renamed"
    ),
    pytest.param(a_record_says_other_than_its_name, {"record"}, id="record-of-other-counts"),
    pytest.param(a_record_is_there_twice, {"record", "rows", "id"}, id="records-overlap"),
    pytest.param(nan, {"not_finite"}, id="nan"),
    pytest.param(infinity, {"not_finite"}, id="infinity"),
    pytest.param(a_vector_of_zeros, {"zero_vector"}, id="zero"),
    pytest.param(a_vector_that_is_too_long, {"unit_length"}, id="length"),
    pytest.param(an_id_of_another_row, {"id"}, id="id-twice"),
    pytest.param(a_row_less, {"count", "rows"}, id="row-less"),
    pytest.param(a_row_twice, {"rows"}, id="row-twice"),
    pytest.param(rows_of_another_file, {"rows"}, id="rows-of-another-file"),
    pytest.param(another_dead_letter, {"count"}, id="dead-letter-code"),
    pytest.param(another_type_of_id, {"schema"}, id="id-type"),
    pytest.param(another_dim, {"schema"}, id="dim"),
    pytest.param(a_column_more, {"schema"}, id="column-more"),
    pytest.param(a_footer_of_another_model, {"metadata"}, id="footer"),
    pytest.param(a_foreign_part, {"stranger"}, id="foreign-part"),
    pytest.param(a_part_in_a_folder_below, {"stranger"}, id="folder-below"),
    pytest.param(an_unfinished_file, {"stranger"}, id="unfinished-file"),
    pytest.param(no_success, {"unfinished"}, id="no-success"),
]


@pytest.mark.parametrize("against", [False, True], ids=["alone", "against-input"])
def test_a_sound_dataset_has_no_findings(made: Path, against: bool) -> None:
    assert findings(made, *(("--against", made / "in") if against else ())) == []
    shown = bulkembed("verify", made / "out")
    assert "27 vectors and 3 dead letters in 3 units" in shown.out
    assert "sound: nothing is wrong" in shown.out


@pytest.mark.parametrize(("damage", "checks"), DAMAGES)
def test_a_damage_is_found_out(
    damage: Callable[[Path], None], checks: set[str], place: Path
) -> None:
    damage(place)
    assert {check for check, _, _ in findings(place)} == checks


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(nan, "NaN or infinity in 1 vectors, first in row 2 of a.parquet", id="nan"),
        pytest.param(an_id_of_another_row, "2 rows have it: row 0 of a.parquet, row 1", id="id"),
        pytest.param(another_dim, "[64], the dataset's is fixed_size_list<", id="dim"),
        pytest.param(a_footer_of_another_model, "the dataset's is gemini-embedding-001", id="foot"),
        pytest.param(a_row_less, "1 rows of a.parquet are nowhere, first row 0", id="row"),
    ],
)
def test_a_finding_says_what_and_where(
    damage: Callable[[Path], None], said: str, place: Path
) -> None:
    damage(place)
    shown = bulkembed("verify", place / "out")
    assert shown.code == 1
    assert said in shown.out


def test_ids_that_may_repeat_are_not_compared(place: Path) -> None:
    an_id_of_another_row(place)
    assert findings(place, "--repeated-ids") == []


def more_input(place: Path) -> None:
    write_rows(place / "in/b.parquet", ["one", "two"], lang=["en"] * 2)


def less_input(place: Path) -> None:
    (place / "in/a.parquet").rename(place / "in/b.parquet")


def changed_input(place: Path) -> None:
    rewrite(place / "in/a.parquet", with_column("text", lambda texts: [*texts[:-1], "other"]))


def broken_input(place: Path) -> None:
    (place / "in/b.parquet").write_bytes(b"PAR1")


def ids_that_were_swapped(place: Path) -> None:
    rewrite(first_part(place), with_column("id", lambda ids: [ids[1], ids[0], *ids[2:]]))


def hashes_that_were_swapped(place: Path) -> None:
    rewrite(first_part(place), with_column("text_hash", lambda h: [h[1], h[0], *h[2:]]))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(more_input, "2 of 2 rows are not in the dataset, first row 0", id="more"),
        pytest.param(less_input, "not in the input, but 30 rows of it are in the", id="less"),
        pytest.param(changed_input, "its content is not the one that was embedded", id="changed"),
        pytest.param(broken_input, "b.parquet cannot be read", id="broken"),
        pytest.param(ids_that_were_swapped, "2 rows have another id in a.parquet", id="ids"),
        pytest.param(hashes_that_were_swapped, "2 rows have another text in", id="texts"),
        pytest.param(a_record_is_deleted, "10 of 30 rows are not in the dataset", id="unit"),
    ],
)
def test_the_input_is_held_against_the_dataset(
    damage: Callable[[Path], None], said: str, place: Path
) -> None:
    damage(place)
    found = findings(place, "--against", place / "in")
    assert [message for check, _, message in found if check == "input" and said in message]


def test_a_file_of_the_same_size_and_time_is_read_all_the_same(
    server: EmulatorServer, tmp_path: Path
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": 1, "text": "one"}')
    assert run(server.url, source, tmp_path / "out", "--dim", 128).code == 0
    stamp = source.stat().st_mtime_ns
    source.write_text('{"id": 1, "text": "two"}')
    os.utime(source, ns=(stamp, stamp))
    [(check, where, message)] = findings(tmp_path, "--against", source)
    assert (check, where) == ("input", "in.jsonl")
    assert "its content is not the one that was embedded" in message


@pytest.mark.parametrize("damage", [cut_short, a_part_is_deleted, nan, a_column_more, a_row_less])
def test_the_cure_that_is_told_cures(damage: Callable[[Path], None], place: Path) -> None:
    damage(place)
    assert "delete the records in _run/units/" in bulkembed("verify", place / "out").out
    record(place).unlink()
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        ended = run(server.url, place / "in", place / "out", "--dim", 128, "--keep-columns", "lang")
    assert ended.code == 0, ended.err
    assert findings(place, "--against", place / "in") == []


def test_a_dataset_without_vectors_is_sound(server: EmulatorServer, tmp_path: Path) -> None:
    write_rows(tmp_path / "in/a.parquet", ["", None])
    assert run(server.url, tmp_path / "in", tmp_path / "out", "--dim", 128).code == 0
    assert findings(tmp_path, "--against", tmp_path / "in") == []


@pytest.mark.parametrize(
    "args",
    [
        ("--dim", "256", "--vector-type", "float16"),
        ("--dim", "256", "--vector-encoding", "byte_stream_split"),
        ("--dim", "256", "--no-normalize"),
        ("--no-normalize",),
        ("--generate-ids",),
        ("--model", "gemini-embedding-2", "--dim", "256"),
        ("--model", "nobody-knows-it"),
        ("--text-template", "{lang}: {text}", "--title-column", "lang"),
    ],
    ids=" ".join,
)
def test_datasets_of_all_settings_are_sound(args: tuple[str, ...], tmp_path: Path) -> None:
    write_rows(tmp_path / "in/a.parquet", [f"text {n}" for n in range(12)], lang=["en"] * 12)
    with EmulatorServer(EmulatorSettings(extra_models=(("nobody-knows-it", 64),))) as server:
        ended = run(server.url, tmp_path / "in", tmp_path / "out", *args)
    assert ended.code == 0, ended.err
    assert findings(tmp_path, "--against", tmp_path / "in") == []


def test_a_dataset_that_a_run_works_on_is_left_alone(place: Path) -> None:
    dataset = Dataset.open(str(place / "out"))
    with output_lock.held(dataset, LockOwner("run-1", "local")):
        shown = bulkembed("verify", place / "out")
    assert shown.code == 5
    assert "run run-1 is at work on it" in shown.last


def test_no_dataset_is_wrong_usage(tmp_path: Path) -> None:
    shown = bulkembed("verify", tmp_path)
    assert shown.code == 2
    assert "there is no dataset" in shown.last
