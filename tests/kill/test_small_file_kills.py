"""A run over small files that is killed or stopped at any step is resumed by the same command."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.processes import Event, Starter
from support.cli import bulkembed, parts, read, run, write_rows
from support.killing import leftovers, same_rows
from support.moments import just_before

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.transforms.dataset.dataset import Dataset

pytestmark = [pytest.mark.kill, pytest.mark.timeout(200)]

FILES, ROWS = 30, 4
ARGS = ("--dim", "128", "--unit-rows", "50", "--no-report")

STEPS: tuple[Event, ...] = (
    ("open", ".spill", 1),
    ("os.rename", "/vectors/group-", 1),
    ("os.rename", "/dead_letters/group-", 1),
    ("os.rename", "/_run/units/group-", 1),
    ("os.rename", "/dead_letters/part-", 1),
    ("os.rename", "-e3-d1-", 1),
    ("os.remove", ".spill", 1),
    ("os.rename", "/_run/units/group-", 3),
)
"""Of groups, and of a unit with a failed row."""


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter({}) as starter:
        yield starter


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`in` with thirty files, of which one has a blank row and one a row that fails, and `out`."""
    place = tmp_path_factory.mktemp("small")
    for file in range(FILES):
        texts = [f"text {row} of file {file}" for row in range(ROWS)]
        if file == 3:
            texts[1] = ""
        if file == 5:
            texts[2] = "poison"
        write_rows(place / f"in/f{file:02}.parquet", texts, id=[f"{file}-{n}" for n in range(ROWS)])
    with serving() as server:
        assert run(server.url, place / "in", place / "out", *ARGS).code == 0
    assert sum(part.name.startswith("group-") for part in parts(place / "out", "vectors")) == 3
    return place


def serving() -> EmulatorServer:
    return EmulatorServer(EmulatorSettings(poison="poison"))


def words(server: EmulatorServer, made: Path, output: Path) -> tuple[object, ...]:
    return (
        "run", "--input", made / "in", "--output", output, "--base-url", server.url, *ARGS,
    )  # fmt: skip


def check(made: Path, output: Path) -> None:
    same_rows(output, made / "out")
    assert len(set(read(output)["id"].to_pylist())) == len(read(output))
    assert leftovers(output) == []
    verified = bulkembed("verify", output, "--against", made / "in")
    assert verified.code == 0, verified.out


def test_each_step_of_a_group_can_be_the_last(made: Path, starter: Starter, tmp_path: Path) -> None:
    for number, step in enumerate(STEPS):
        output = tmp_path / str(number)
        with serving() as server:
            killed = starter.finish(words(server, made, output), tmp_path / "killed", event=step)
            assert killed.code == -signal.SIGKILL, f"{step}: {killed.code} {killed.said}"
            ended = starter.finish(words(server, made, output), tmp_path / "finished")
            assert ended.code == 0, f"{step}: {ended.said}"
        check(made, output)
        shutil.rmtree(output)


def test_a_stopped_run_commits_the_finished_rows_of_each_file(made: Path, tmp_path: Path) -> None:
    """The second request of the group is not sent any more: it is beyond the quota of the day."""
    output = tmp_path / "out"
    args = ("--dim", "128", "--no-report")
    with EmulatorServer() as server:
        stopped = run(server.url, made / "in", output, *args, "--rpd", "105")
        assert stopped.code == 75, stopped.err
        paid = server.stats()["texts"]
        assert 100 <= paid <= 105
        state = Dataset.open(str(output)).state()
        assert sum(record.embedded for record in state.records) == paid
        assert len(state.groups) == 1
        ended = run(server.url, made / "in", output, *args)
        assert ended.code == 0, ended.err
        assert server.stats()["texts_paid_twice"] == 0
    assert len(parts(output, "vectors")) <= 6
    verified = bulkembed("verify", output, "--against", made / "in")
    assert verified.code == 0, verified.out


@pytest.mark.parametrize("first", ["vectors", "units"])
def test_a_slice_that_two_workers_have_gives_each_row_once(
    first: str, made: Path, tmp_path: Path
) -> None:
    """Another attempt of the same run commits some of the units just before a group is written."""
    output, other = tmp_path / "out", tmp_path / "other"

    def commit_others() -> None:
        shutil.copytree(other / "vectors", output / "vectors", dirs_exist_ok=True)
        shutil.copytree(other / "_run/units", output / "_run/units", dirs_exist_ok=True)

    with serving() as server:
        half = tmp_path / "half"
        for at in range(6, 26):
            (half / "in").mkdir(parents=True, exist_ok=True)
            shutil.copy(made / f"in/f{at:02}.parquet", half / "in")
        ended = run(server.url, half / "in", other, *ARGS)
        assert ended.code == 0, ended.err
        part = "/vectors/group-" if first == "vectors" else "/_run/units/group-"
        with just_before("os.rename", part, commit_others):
            ended = run(server.url, made / "in", output, *ARGS)
        assert ended.code == 0, ended.err
    check(made, output)
