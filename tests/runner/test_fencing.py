"""Workers of an earlier run cannot damage the dataset, whenever they commit."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import Ended, bulkembed, matrix, parts, read, run
from support.killing import leftovers
from support.moments import just_before

from bulkembed.emulator.server import EmulatorServer
from bulkembed.transforms.dataset.dataset import Dataset

pytestmark = pytest.mark.faults

ROWS = 25
EVERY_ROW = [*range(ROWS), 0, 1]
"""The texts of both files, as `read` orders them."""


def go(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    args = ("--dim", 128, "--unit-rows", 10, "--concurrency", 1, *args)
    return run(server.url, source.parent, output, *args)


def run_number(output: Path) -> int:
    number: int = json.loads((output / "_run/run.json").read_bytes())["run_number"]
    return number


def commits(output: Path) -> list[Path]:
    """Return the records and parts of a dataset."""
    folders = ("_run/units", "vectors", "dead_letters")
    return [path for folder in folders for path in sorted((output / folder).glob("*"))]


def put(late: Path, output: Path) -> None:
    """Copy the parts, then the records, of another dataset."""
    for path in reversed(commits(late)):
        place = output / path.relative_to(late)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


@pytest.fixture(
    params=[
        pytest.param((ROWS, ROWS), id="around"),
        pytest.param((3, 3), id="prefix"),
        pytest.param((8, 16), id="across"),
        pytest.param((10, 20), id="the-same-units"),
    ]
)
def late(
    request: pytest.FixtureRequest, server: EmulatorServer, source: Path, tmp_path: Path
) -> Path:
    """Return what workers of the first run commit late: units of other sizes."""
    unit_rows, rows = request.param
    folder = tmp_path / "late"
    assert go(server, source, folder, "--unit-rows", unit_rows, "--limit-rows", rows).code == 0
    assert run_number(folder) == 1
    return folder


def check_named(output: Path, late: Path) -> None:
    """Check that `verify` names each late file, its run and the cure."""
    found = json.loads(bulkembed("verify", output, "--repeated-ids", "--json").out)["findings"]
    assert {finding["check"] for finding in found} == {"foreign"}
    assert sorted(finding["where"] for finding in found) == sorted(
        str(path.relative_to(late)) for path in commits(late)
    )
    for finding in found:
        assert "of run number 1" in finding["message"]
        assert "Rerun the same command" in finding["message"]
        assert "verify --repair" in finding["message"]
        if finding["where"].startswith("_run/units/"):
            # The first run's own trial may cover some of them, too.
            assert re.search("records of run number (1, )?2 cover its rows", finding["message"])
        else:
            assert "no commit record that counts names it" in finding["message"]


def check_healed(server: EmulatorServer, source: Path, output: Path, *args: object) -> None:
    """Check that the same command makes the dataset complete, and then has nothing to do."""
    ended = go(server, source, output, *args)
    assert ended.code == 0, ended.err
    assert "27 in: 27 embedded" in ended.out
    assert (output / "_SUCCESS").exists()
    assert read(output)["source_row"].to_pylist() == EVERY_ROW
    assert leftovers(output) == []
    assert bulkembed("verify", output, "--repeated-ids").code == 0
    before = commits(output)
    assert go(server, source, output, *args).code == 0
    assert commits(output) == before


def test_late_commits_of_an_earlier_run_are_ignored_and_deleted_by_the_next_run(
    server: EmulatorServer, source: Path, output: Path, late: Path
) -> None:
    assert go(server, source, output, "--limit-rows", 2).code == 0
    assert go(server, source, output).code == 0
    whole = read(output)
    put(late, output)
    told = json.loads(bulkembed("status", output, "--json").out)
    assert (told["rows"]["embedded"], told["rows"]["left"], told["vectors"]) == (27, 0, 27)
    check_named(output, late)
    hits = json.loads(bulkembed("search", output, "text 7", "--json", "-k", 27).out)["rows"]
    assert len({(hit["source_file"], hit["source_row"]) for hit in hits}) == 27
    paid = server.stats()["texts"]
    check_healed(server, source, output)
    assert read(output).equals(whole)
    assert server.stats()["texts"] == paid


def test_late_commits_are_set_aside_by_verify_repair(
    server: EmulatorServer, source: Path, output: Path, late: Path
) -> None:
    assert go(server, source, output, "--limit-rows", 2).code == 0
    assert go(server, source, output).code == 0
    before = commits(output)
    put(late, output)
    assert bulkembed("verify", output, "--repeated-ids", "--repair").code == 0
    assert commits(output) == before
    assert bulkembed("verify", output, "--repeated-ids").code == 0


def test_late_parts_without_a_record_are_deleted_by_the_next_run(
    server: EmulatorServer, source: Path, output: Path, late: Path
) -> None:
    assert go(server, source, output, "--limit-rows", 2).code == 0
    assert go(server, source, output).code == 0
    whole, paid = read(output), server.stats()["texts"]
    for path in parts(late, "vectors"):
        shutil.copy(path, output / "vectors")
    assert len(read(output)) > ROWS + 2
    (late / "_run/units").rename(late / "no-units")
    check_named(output, late)
    check_healed(server, source, output)
    assert read(output).equals(whole)
    assert server.stats()["texts"] == paid


def test_late_commits_during_a_run_add_no_rows(
    server: EmulatorServer, source: Path, output: Path, late: Path
) -> None:
    assert go(server, source, output, "--limit-rows", 2).code == 0
    with just_before("os.rename", "/_run/units/", lambda: put(late, output)):
        ended = go(server, source, output)
    assert ended.code in (0, 75), ended.err
    assert "report this" not in ended.err + ended.out
    check_healed(server, source, output)


@pytest.mark.parametrize("dim", [128, 256], ids=["same-settings", "other-settings"])
def test_late_commits_of_a_run_before_overwrite_do_not_count(
    server: EmulatorServer, source: Path, output: Path, tmp_path: Path, dim: int
) -> None:
    assert go(server, source, output).code == 0
    shutil.copytree(output, tmp_path / "before")
    assert go(server, source, output, "--overwrite", "--dim", dim).code == 0
    put(tmp_path / "before", output)
    told = json.loads(bulkembed("status", output, "--json").out)
    assert (told["rows"]["embedded"], told["vectors"]) == (27, 27)
    check_healed(server, source, output, "--dim", dim)
    assert matrix(read(output)).shape == (27, dim)
    assert server.stats()["texts"] == 2 * 27


def test_late_commits_of_a_run_before_overwrite_do_not_count_during_the_overwrite(
    server: EmulatorServer, source: Path, output: Path, tmp_path: Path
) -> None:
    assert go(server, source, output).code == 0
    shutil.copytree(output, tmp_path / "before")
    late = tmp_path / "before"
    with just_before("os.rename", "/_run/plan/", lambda: put(late, output)):
        assert go(server, source, output, "--overwrite", "--dim", 256).code == 0
    assert matrix(read(output)).shape == (27, 256)
    assert server.stats()["texts"] == 2 * 27
    check_healed(server, source, output, "--dim", 256)


def take_over(output: Path) -> Callable[[], None]:
    """Return a step in which a run on another machine takes over the dataset."""

    def take() -> None:
        path = output / "_run/run.json"
        pinned = json.loads(path.read_bytes())
        path.write_text(
            json.dumps({**pinned, "run_number": pinned["run_number"] + 1, "last_run_id": "other"})
        )
        (output / "_run/spill").mkdir(exist_ok=True)
        (output / "_run/spill/other.spill").write_bytes(b"")

    return take


@pytest.mark.parametrize(
    ("event", "part", "args", "records"),
    [
        pytest.param("os.rename", "/vectors/part-", (), 0, id="before-the-first-part-is-there"),
        pytest.param(
            "open",
            "/_run/units/.tmp-",
            ("--unit-rows", ROWS, "--limit-rows", ROWS),
            0,
            id="while-the-record-is-written",
        ),
        # One unit: of several, more than one may be between the last look and the record.
        pytest.param(
            "os.rename",
            "/_run/units/",
            ("--unit-rows", ROWS, "--limit-rows", ROWS),
            1,
            id="between-the-last-look-and-the-record",
        ),
    ],
)
def test_a_run_that_loses_its_dataset_stops_committing_and_changes_nothing(
    server: EmulatorServer,
    source: Path,
    output: Path,
    event: str,
    part: str,
    args: tuple[object, ...],
    records: int,
) -> None:
    with just_before(event, part, take_over(output)):
        ended = go(server, source, output, *args)
    assert ended.code == 5
    assert "run other has taken over this dataset" in ended.last
    assert "Traceback" not in ended.err
    assert len(Dataset.open(str(output)).state().records) == records
    assert len(parts(output, "vectors")) == records  # Readers see nothing that does not count.
    assert not (output / "_SUCCESS").exists()
    assert not list((output / "_run").glob("summaries/*"))
    assert not list((output / "_run").glob("stops/*"))
    assert (output / "_run/spill/other.spill").exists()
    check_healed(server, source, output)
    assert server.stats()["texts_paid_twice"] == 0


def overtake(newer: Path, output: Path) -> Callable[[], None]:
    """Return a step in which a later run takes over the dataset and completes it."""

    def take() -> None:
        for place in (output / "vectors", output / "dead_letters"):
            for path in place.glob("part-*"):
                path.unlink()  # No record names it yet.
        put(newer, output)
        for name in ("_run/run.json", "_run/run.copy.json", "_SUCCESS"):
            shutil.copy(newer / name, output / name)

    return take


@pytest.mark.parametrize(
    ("event", "part"),
    [
        pytest.param("os.rename", "/vectors/part-", id="before-the-part"),
        pytest.param("open", "/_run/units/.tmp-", id="while-the-record-is-written"),
        pytest.param("os.rename", "/_run/units/", id="between-the-last-look-and-the-record"),
    ],
)
@pytest.mark.parametrize("unit_rows", [ROWS, 10, 7], ids=["larger", "equal", "smaller"])
def test_a_run_that_is_overtaken_while_it_commits_withdraws_its_late_unit(
    server: EmulatorServer,
    source: Path,
    output: Path,
    tmp_path: Path,
    event: str,
    part: str,
    unit_rows: int,
) -> None:
    newer = tmp_path / "newer"
    assert go(server, source, newer, "--limit-rows", 2).code == 0
    assert go(server, source, newer).code == 0
    assert run_number(newer) == 2
    with just_before(event, part, overtake(newer, output)):
        # One unit: of several, more than one may be between the last look and the record.
        args = ("--unit-rows", unit_rows, "--limit-rows", unit_rows)
        ended = go(server, source, output, *args)
    assert ended.code == 5
    assert "Traceback" not in ended.err
    assert [path.name for path in commits(output)] == [path.name for path in commits(newer)]
    assert read(output).equals(read(newer))
    assert bulkembed("verify", output, "--repeated-ids").code == 0
    paid = server.stats()["texts"]
    check_healed(server, source, output)
    assert server.stats()["texts"] == paid


def test_a_run_that_loses_its_dataset_at_the_end_does_not_report_completion(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    with just_before("os.rename", "/_run/units/", take_over(output), number=4):
        ended = go(server, source, output)
    assert ended.code == 5
    assert len(parts(output, "vectors")) == 4
    assert not (output / "_SUCCESS").exists()
    check_healed(server, source, output)


def test_a_run_with_nothing_to_do_uses_no_run_number(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output).code == 0
    assert go(server, source, output).code == 0
    assert run_number(output) == 1
    assert go(server, source, output, "--overwrite").code == 0
    assert run_number(output) == 2
