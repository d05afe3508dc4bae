"""A night that is killed at any moment ends as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from chaos.processes import Command, Starter, end_all
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

MOMENTS = 10
SEED = 20261127
RUN = (*FLAGS, "--concurrency", 4, "--no-report")
KINDS = {"files": ("--prune",), "catalogue": ("--sync",)}


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter({}) as starter:
        yield starter


def start(starter: Starter, server: EmulatorServer, folder: Path, *flags: object) -> Command:
    words = (
        "run", "--input", folder / "in", "--output", folder / "out", "--base-url", server.url,
        *RUN, *flags,
    )  # fmt: skip
    log = folder / f"log-{len(list(folder.glob('*.err')))}"
    return starter.start([*map(str, words)], log, {"GEMINI_API_KEY": "a-key"})


def finish(command: Command) -> float:
    """Wait for the end of a command, which must be a good one; return how long it took."""
    began = time.monotonic()
    try:
        command.wait(200)
    finally:
        end_all(command)
    assert command.code == 0, command.said
    return time.monotonic() - began


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
        finish(start(starter, server, tmp_path / "first", *flags))
    listed = bulkembed("parts", tmp_path / "first/out", "--json").out
    state = listed.split('"run_id": "')[1].split('"')[0]

    def second_night(name: str) -> Path:
        shutil.copytree(tmp_path / "first", tmp_path / name)
        Disk(tmp_path / name).export(second)
        return tmp_path / name

    with EmulatorServer(settings) as server:
        whole_s = finish(start(starter, server, second_night("whole"), *flags))
    kills = 0
    for moment in range(MOMENTS):
        folder = second_night(str(moment))
        with EmulatorServer(settings) as server:
            command = start(starter, server, folder, *flags)
            command.wait(chance.uniform(0.1, 1.0) * whole_s)
            command.signal_all(signal.SIGKILL)
            command.wait(60)
            kills += command.code == -signal.SIGKILL
            finish(start(starter, server, folder, *flags))
            paid, new = server.stats()["texts"], new_contents(first.rows, second.rows)
        assert new <= paid <= 2 * new  # All new texts may have been in flight when it was killed.
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
    assert kills >= MOMENTS // 2, "most of the runs were over before they were killed"
