"""A night that is killed at any moment ends as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from chaos.processes import Starter
from support.cli import bulkembed
from support.killing import leftovers

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from nights.catalogue import Night
from nights.jobs import FLAGS, listed_changes, load, replayed
from nights.model import changes, new_contents
from nights.places import Disk
from nights.play import FromNothing

pytestmark = [pytest.mark.nights, pytest.mark.timeout(1200)]

DATASETS, KILLS = 5, 4
"""Of each kind: so many copies of a dataset, and kills of a night of each, one after another."""
SEED = 20261127
RUN = (*FLAGS, "--concurrency", 4, "--no-report")
KINDS = {"files": ("--prune",), "catalogue": ("--sync",)}


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter({}) as starter:
        yield starter


def words(server: EmulatorServer, folder: Path, flags: Sequence[str]) -> Sequence[object]:
    """Return the command of a night."""
    return (
        "run", "--input", folder / "in", "--output", folder / "out", "--base-url", server.url,
        *RUN, *flags,
    )  # fmt: skip


def finish(starter: Starter, server: EmulatorServer, folder: Path, flags: Sequence[str]) -> float:
    """Do a night to its end, which must be a good one; return how long it took, in seconds."""
    began = time.monotonic()
    command = starter.finish(words(server, folder, flags), folder / "finished")
    assert command.code == 0, command.said
    return time.monotonic() - began


def kill(
    starter: Starter, server: EmulatorServer, folder: Path, flags: Sequence[str], after_s: float
) -> bool:
    """Kill a night after some seconds; return whether it was still running."""
    args = [*map(str, words(server, folder, flags))]
    command = starter.start(args, folder / "killed", {"GEMINI_API_KEY": "a-key"})
    command.wait(after_s)
    command.signal_all(signal.SIGKILL)
    command.wait(60)
    return command.code == -signal.SIGKILL


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_night_that_is_killed_at_seeded_moments_ends_as_if_undisturbed(
    kind: str,
    starter: Starter,
    few_nights: Sequence[Night],
    from_nothing: FromNothing,
    tmp_path: Path,
) -> None:
    first, second, *_ = few_nights
    flags, chance = KINDS[kind], random.Random(SEED)
    settings = EmulatorSettings(latency_ms=20)
    (tmp_path / "first").mkdir()
    with EmulatorServer(settings) as server:
        Disk(tmp_path / "first").export(first)
        finish(starter, server, tmp_path / "first", flags)
    listed = bulkembed("parts", tmp_path / "first/out", "--json").out
    state = listed.split('"run_id": "')[1].split('"')[0]

    def second_night(name: str) -> Path:
        shutil.copytree(tmp_path / "first", tmp_path / name)
        Disk(tmp_path / name).export(second)
        return tmp_path / name

    with EmulatorServer(settings) as server:
        whole_s = finish(starter, server, second_night("whole"), flags)
    kills = 0
    for number in range(DATASETS):
        folder = second_night(str(number))
        with EmulatorServer(settings) as server:
            for _ in range(KILLS):
                after_s = chance.uniform(0.05, 0.8) * whole_s
                kills += kill(starter, server, folder, flags, after_s)
            finish(starter, server, folder, flags)
            paid, new = server.stats()["texts"], new_contents(first.rows, second.rows)
        # All new texts may have been in flight at each kill.
        assert new <= paid <= (1 + KILLS) * new
        output = folder / "out"
        assert load(output, second.columns) == from_nothing(second)
        assert leftovers(output) == []
        feed = listed_changes(
            second.columns, lambda *args, out=output: bulkembed("changes", out, *args), state
        )
        expected = changes(first.rows, second.rows, second.columns)
        assert {one: changed for one, (changed, _) in feed.items()} == expected
        assert replayed(from_nothing(first), feed) == from_nothing(second)
        shutil.rmtree(folder)
    assert kills >= DATASETS * KILLS // 2, "most runs were over before they were killed"
