"""`bulkembed verify`: an intact dataset passes, and each kind of damage is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import bulkembed, run, write_rows
from support.damage import (
    a_column_more,
    a_flipped_bit_in_a_vector,
    a_footer_of_another_model,
    a_foreign_part,
    a_part_in_a_folder_below,
    a_part_is_deleted,
    a_record_has_another_name,
    a_record_is_cut_short,
    a_record_is_deleted,
    a_record_is_there_twice,
    a_record_says_other_than_its_name,
    a_row_less,
    a_row_twice,
    a_vector_of_zeros,
    a_vector_that_is_too_long,
    an_id_of_another_row,
    an_unfinished_file,
    another_dead_letter,
    another_dim,
    another_type_of_id,
    cut_short,
    findings,
    infinity,
    nan,
    no_success,
    overwritten_in_the_middle,
    rows_of_another_file,
)

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.transforms.dataset import output_lock
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.output_lock import LockOwner

DAMAGES = [
    pytest.param(cut_short, {"unreadable"}, id="cut-short"),
    pytest.param(overwritten_in_the_middle, {"unreadable"}, id="overwritten"),
    pytest.param(a_flipped_bit_in_a_vector, {"unreadable"}, id="flipped-bit"),
    pytest.param(a_part_is_deleted, {"missing"}, id="part-deleted"),
    pytest.param(a_record_is_deleted, {"unfinished", "foreign"}, id="record-deleted"),
    pytest.param(a_record_is_cut_short, {"record"}, id="record-cut-short"),
    pytest.param(
        a_record_has_another_name, {"record", "unfinished", "foreign"}, id="record-renamed"
    ),
    pytest.param(a_record_says_other_than_its_name, {"record"}, id="record-of-other-counts"),
    pytest.param(a_record_is_there_twice, {"foreign"}, id="records-overlap"),
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
    pytest.param(a_foreign_part, {"foreign"}, id="foreign-part"),
    pytest.param(a_part_in_a_folder_below, {"foreign"}, id="folder-below"),
    pytest.param(an_unfinished_file, {"foreign"}, id="unfinished-file"),
    pytest.param(no_success, {"unfinished"}, id="no-success"),
]


@pytest.mark.parametrize("against", [False, True], ids=["alone", "against-input"])
def test_an_intact_dataset_has_no_findings(made: Path, against: bool) -> None:
    assert findings(made, *(("--against", made / "in") if against else ())) == []
    shown = bulkembed("verify", made / "out")
    assert "27 vectors and 3 dead letters in 3 units" in shown.out
    assert "no problems found" in shown.out


@pytest.mark.parametrize(("damage", "checks"), DAMAGES)
def test_each_damage_is_found(
    damage: Callable[[Path], None], checks: set[str], place: Path
) -> None:
    damage(place)
    assert {check for check, _, _ in findings(place)} == checks


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(nan, "1 vector with NaN or infinity, first in row 2 of a.parquet", id="nan"),
        pytest.param(an_id_of_another_row, "used by 2 rows: row 0 of a.parquet, row 1", id="id"),
        pytest.param(another_dim, "[64], the dataset's is fixed_size_list<", id="dim"),
        pytest.param(a_footer_of_another_model, "the dataset's is gemini-embedding-001", id="foot"),
        pytest.param(a_row_less, "1 row of a.parquet missing, first row 0", id="row"),
    ],
)
def test_a_finding_names_the_problem_and_the_place(
    damage: Callable[[Path], None], said: str, place: Path
) -> None:
    damage(place)
    shown = bulkembed("verify", place / "out")
    assert shown.code == 1
    assert said in shown.out


def test_ids_are_not_compared_with_repeated_ids(place: Path) -> None:
    an_id_of_another_row(place)
    assert findings(place, "--repeated-ids") == []


@pytest.mark.parametrize("option", ["--against", "--sample"])
def test_a_repair_refuses_the_options_of_a_check(tmp_path: Path, option: str) -> None:
    ended = bulkembed("verify", tmp_path, "--repair", option, "1")
    assert (ended.code, ended.out) == (2, "")
    assert "--repair cannot be combined with --against or --sample" in ended.err


@pytest.mark.parametrize("damage", [cut_short, a_part_is_deleted, nan, a_column_more, a_row_less])
def test_the_suggested_fix_repairs_the_dataset(damage: Callable[[Path], None], place: Path) -> None:
    damage(place)
    assert "bulkembed verify --repair OUT" in bulkembed("verify", place / "out").out
    repaired = bulkembed("verify", "--repair", place / "out")
    assert repaired.code == 0, repaired.err
    assert "moved to _run/aside/" in repaired.out or damage is a_part_is_deleted
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        ended = run(server.url, place / "in", place / "out", "--dim", 128, "--keep-columns", "lang")
    assert ended.code == 0, ended.err
    assert findings(place, "--against", place / "in") == []


def test_a_dataset_without_vectors_has_no_findings(server: EmulatorServer, tmp_path: Path) -> None:
    write_rows(tmp_path / "in/a.parquet", ["", None])
    assert run(server.url, tmp_path / "in", tmp_path / "out", "--dim", 128).code == 0
    assert findings(tmp_path, "--against", tmp_path / "in") == []


def test_a_dataset_that_a_run_is_writing_is_not_checked(place: Path) -> None:
    dataset = Dataset.open(str(place / "out"))
    with output_lock.acquire(dataset, LockOwner("run-1", "local")):
        shown = bulkembed("verify", place / "out")
    assert shown.code == 5
    assert "run run-1 is writing it. Wait until it ends." in shown.last


def test_an_unfinished_claim_is_no_finding(place: Path) -> None:
    claims = place / "out/_run/claims"
    claims.mkdir()
    (claims / ".tmp-12345678-run-0.json").touch()
    assert findings(place) == []


def test_a_missing_dataset_is_a_usage_error(tmp_path: Path) -> None:
    shown = bulkembed("verify", tmp_path)
    assert shown.code == 2
    assert "there is no dataset" in shown.last
