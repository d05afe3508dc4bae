"""`bulkembed verify` of merged parts: an intact group passes, each damage is found and repaired."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import bulkembed, parts, run, write_rows
from support.damage import (
    a_flipped_bit_in_a_vector,
    a_part_is_deleted,
    a_record_is_cut_short,
    a_record_is_deleted,
    a_row_less,
    a_row_twice,
    another_dead_letter,
    cut_short,
    findings,
    first_part,
    nan,
    overwritten_in_the_middle,
    rewrite,
    with_column,
)

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.transforms.dataset import part_files, run_file
from bulkembed.transforms.dataset.dataset import Dataset

ARGS = ("--dim", "128", "--unit-rows", "4", "--no-report")


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`in` with four files of six rows, of which two are blank, and `out` with one group."""
    place = tmp_path_factory.mktemp("groups")
    for file in range(4):
        texts = [f"text {row} of file {file}" for row in range(6)]
        if file % 2:
            texts[3] = ""
        write_rows(place / f"in/f{file}.parquet", texts, id=[f"{file}-{n}" for n in range(6)])
    with EmulatorServer(EmulatorSettings()) as server:
        assert run(server.url, place / "in", place / "out", *ARGS).code == 0
    assert bulkembed("compact", place / "out").code == 0
    return place


@pytest.fixture
def place(merged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(merged, tmp_path / "copy"))


def rows_in_another_order(place: Path) -> None:
    rewrite(first_part(place), lambda table: pa.concat_tables([table.slice(8), table.slice(0, 8)]))


DAMAGES = [
    pytest.param(cut_short, {"unreadable"}, id="cut-short"),
    pytest.param(overwritten_in_the_middle, {"unreadable"}, id="overwritten"),
    pytest.param(a_flipped_bit_in_a_vector, {"unreadable"}, id="flipped-bit"),
    pytest.param(a_part_is_deleted, {"missing"}, id="part-deleted"),
    pytest.param(nan, {"not_finite"}, id="nan"),
    pytest.param(a_row_less, {"count", "rows"}, id="row-less"),
    pytest.param(a_row_twice, {"rows"}, id="row-twice"),
    pytest.param(rows_in_another_order, {"rows"}, id="other-order"),
    pytest.param(another_dead_letter, {"count"}, id="dead-letter-code"),
    pytest.param(a_record_is_deleted, {"unfinished", "foreign"}, id="record-deleted"),
    pytest.param(a_record_is_cut_short, {"record", "unfinished"}, id="record-cut-short"),
]


@pytest.mark.parametrize(("damage", "checks"), DAMAGES)
def test_each_damage_of_a_group_is_found_and_repaired(
    damage: Callable[[Path], None], checks: set[str], place: Path
) -> None:
    damage(place)
    assert {check for check, _, _ in findings(place)} == checks
    repaired = bulkembed("verify", "--repair", place / "out")
    assert repaired.code == 0, repaired.err
    with EmulatorServer(EmulatorSettings()) as server:
        ended = run(server.url, place / "in", place / "out", *ARGS)
        paid = server.stats()["texts"]
    assert ended.code == 0, ended.err
    assert findings(place, "--against", place / "in") == []
    if damage in (a_record_is_deleted, a_record_is_cut_short):
        assert "rebuilt from its parts" in repaired.out
        assert paid == 0


def test_only_the_units_in_a_damaged_row_group_are_embedded_again(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_files, "ROW_GROUP_BYTES", 3000)
    place = Path(shutil.copytree(merged / "in", tmp_path / "copy/in")).parent
    with EmulatorServer(EmulatorSettings()) as server:
        assert run(server.url, place / "in", place / "out", *ARGS).code == 0
    assert bulkembed("compact", place / "out").code == 0
    (part,) = parts(place / "out", "vectors")
    assert pq.ParquetFile(part).num_row_groups > 3
    a_flipped_bit_in_a_vector(place)  # Of the first row group.
    assert {check for check, _, _ in findings(place)} == {"unreadable"}
    repaired = bulkembed("verify", "--repair", place / "out")
    assert repaired.code == 0, repaired.err
    assert "that can be read" in repaired.out
    with EmulatorServer(EmulatorSettings()) as server:
        assert run(server.url, place / "in", place / "out", *ARGS).code == 0
        assert 0 < server.stats()["texts"] < 22
    assert findings(place, "--against", place / "in") == []


def test_an_intact_group_has_no_findings(merged: Path) -> None:
    assert findings(merged, "--against", merged / "in") == []
    shown = bulkembed("verify", merged / "out")
    assert "22 vectors and 2 dead letters in 8 units" in shown.out


def test_rows_of_a_group_are_sampled(place: Path) -> None:
    with EmulatorServer(EmulatorSettings()) as server:
        shown = bulkembed(
            "verify", place / "out", "--sample", "50", "--base-url", server.url
        )  # fmt: skip
    assert shown.code == 0, shown.out
    assert "22 rows embedded again, lowest cosine 1.000000" in shown.out


def test_a_changed_id_and_text_are_found_in_their_file(place: Path) -> None:
    swapped = with_column("id", lambda ids: [*ids[:10], ids[11], ids[10], *ids[12:]])
    rewrite(first_part(place), swapped)
    found = findings(place, "--against", place / "in")
    assert [message for _, _, message in found] == [
        "1 row with another id in f1.parquet, first row 5",
        "1 row with another id in f2.parquet, first row 0",
    ]


def test_a_late_record_of_an_older_run_does_not_count_beside_a_group(
    merged: Path, place: Path, tmp_path: Path
) -> None:
    """A worker of the first run wakes up after a compaction and writes its unit again."""
    with EmulatorServer(EmulatorSettings()) as server:
        assert run(server.url, place / "in", tmp_path / "late", *ARGS).code == 0
    dataset = Dataset.open(str(place / "out"))
    assert run_file.read(dataset)["run_number"] == 2
    for folder in ("vectors", "_run/units"):
        for path in sorted((tmp_path / "late" / folder).iterdir())[:3]:
            shutil.copy(path, place / "out" / folder / path.name)
    state = dataset.state()
    assert {one.run_number for one in state.records} == {2}
    assert len(state.stale) == 3
    assert {check for check, _, _ in findings(place)} == {"foreign"}
    with EmulatorServer(EmulatorSettings()) as server:
        assert run(server.url, place / "in", place / "out", *ARGS).code == 0
        assert server.stats()["texts"] == 0
    assert findings(place, "--against", place / "in") == []


def test_damage_to_rows_of_missing_files_is_not_replaced_unnoticed(place: Path) -> None:
    """The part also has rows that cannot be embedded again."""
    cut_short(place)
    (place / "in/f0.parquet").unlink()
    with EmulatorServer(EmulatorSettings()) as server:
        ended = run(server.url, place / "in", place / "out", *ARGS)
        assert ended.code == 1
        assert "It holds 6 rows of input files that are missing now" in ended.err
        assert bulkembed("verify", "--repair", place / "out").code == 0
        assert run(server.url, place / "in", place / "out", *ARGS).code == 0
    assert findings(place, "--against", place / "in") == []
