"""A synchronisation that is killed at any moment ends as if nothing had happened."""

from __future__ import annotations

import random
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from chaos.processes import Event, Starter
from support.catalogues import SYNC, Catalogue, catalogue, from_nothing, loaded, sync, write_export
from support.cli import bulkembed
from support.killing import Job, Step, leftovers

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

STEPS = (
    Step("os.rename", "/_run/staged/"),
    Step("os.rename", "/_run/sync.json"),
    Step("os.rename", "/vectors/part-"),
    Step("os.rename", "/_run/units/", 2),
    Step("os.rename", "/vectors/part-", 2),
    Step("os.rename", "/_run/units/"),
    Step("os.rename", "/_run/units/", 2),
    Step("os.rename", "/_run/units/", 3),
    Step("os.rename", "/_run/manifest.json"),
    Step("os.rename", "/_SUCCESS"),
    Step("os.remove", "lock.json"),
)
"""Moments of one night, in their order: staging, two commits, the removal of old rows, the end."""


def next_night(rows: Catalogue, night: int) -> Catalogue:
    """Return the catalogue with a tenth changed, some rows new, and one gone."""
    changed = {
        name: (f"night {night} of {name}", price) if n % 10 == night % 10 else (text, price)
        for n, (name, (text, price)) in enumerate(rows.items())
    }
    changed["p7"] = (changed["p7"][0], 100 + night)
    changed |= {f"n{night}-{n}": (f"new {night} {n}", n) for n in range(12)}
    del changed[f"p{20 + night}"]
    return changed


PASS_SEED = 20261128
PASSES, KILLS_OF_A_PASS = 5, 4
PASS_STEPS = (
    ("os.rename", "/vectors/part-"),
    ("os.rename", "/_run/units/"),
    ("os.remove", "/_run/units/"),
)
"""A copy without the removed rows, its record, and the old record, of one part after another."""
LAST_STEPS = (
    ("os.rename", "/_run/changes/"),
    ("os.rename", "/_run/manifest.json"),
    ("os.remove", "/vectors/part-"),
    ("os.rename", "/_SUCCESS"),
)
"""What follows the pass: the state is published, and the old parts are deleted."""


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter({}) as starter:
        yield starter


def kills_of_passes() -> list[list[Event]]:
    """Return 20 moments: for each pass three in it and one after it.

    Each run replaces at most six of some twenty parts before it is killed.
    """
    chance = random.Random(PASS_SEED)
    passes = []
    for number in range(PASSES):
        kills = [(*chance.choice(PASS_STEPS), chance.randint(2, 6)) for _ in range(3)]
        passes.append([*kills, (*LAST_STEPS[number % len(LAST_STEPS)], 1)])
    return passes


@pytest.mark.kill
@pytest.mark.timeout(600)
def test_the_replacing_pass_can_be_killed_at_any_moment(tmp_path: Path, starter: Starter) -> None:
    rows = catalogue(250)
    after = {name: row for n, (name, row) in enumerate(rows.items()) if n % 10}
    after["new"] = ("one new text", 1)
    with EmulatorServer() as server:
        write_export(tmp_path / "first/in", rows)
        assert sync(server, tmp_path / "first/in", tmp_path / "first/out").code == 0
        write_export(tmp_path / "first/in", after, seed=1)
    wanted = from_nothing(tmp_path / "first/in", tmp_path / "other")
    for number, kills in enumerate(kills_of_passes()):
        place = tmp_path / str(number)
        shutil.copytree(tmp_path / "first", place)
        with EmulatorServer() as server:
            words = (
                "run", "--input", place / "in", "--output", place / "out",
                "--base-url", server.url, *SYNC, "--max-delete", "20%", "--no-report",
            )  # fmt: skip
            for step in kills:
                killed = starter.finish(words, place / "killed", event=step)
                assert killed.code == -signal.SIGKILL, f"{step}: {killed.code} {killed.said}"
                ids = ids_of_the_listed_parts(place / "out")
                assert ids in (sorted(rows), sorted(after)), step
            ended = starter.finish(words, place / "finished")
            assert ended.code == 0, ended.said
            assert server.stats()["texts"] == 1
        assert loaded(place / "out") == wanted, kills
        assert leftovers(place / "out") == [], kills
        verified = bulkembed("verify", place / "out", "--against", place / "in")
        assert verified.code == 0, verified.out


def ids_of_the_listed_parts(output: Path) -> list[str]:
    """Return the ids that a reader of the last complete state finds, sorted."""
    listed = bulkembed("parts", output)
    assert listed.code == 0, listed.err
    tables = [pq.read_table(path, columns=["id"]) for path in listed.out.splitlines()]
    return sorted(one for table in tables for one in table["id"].to_pylist())


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_each_moment_of_a_night_can_be_the_last(tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    with EmulatorServer() as server:
        rows = catalogue()
        assert sync(server, write_export(source, rows), output).code == 0
        rows = next_night(rows, 1)
        write_export(source, rows, seed=1, files=2)
        job = Job(server, source, output, SYNC)
        for step in STEPS:
            assert job.finish(step).code == -signal.SIGKILL, step
        ended = sync(server, source, output)
        assert ended.code == 0, ended.err
        assert leftovers(output) == []
        assert server.stats()["texts_paid_twice"] == 0
    assert loaded(output) == from_nothing(source, tmp_path / "other")
    verified = bulkembed("verify", output, "--against", source)
    assert verified.code == 0, verified.out


@pytest.mark.kill
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 2])
def test_nights_that_are_killed_at_random(tmp_path: Path, starter: Starter, workers: int) -> None:
    seed = secrets.randbelow(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    output, source = tmp_path / "out", tmp_path / "in"
    rows, kills, distinct = catalogue(300), 0, 300
    with EmulatorServer(EmulatorSettings(latency_ms=20)) as server:
        words = (
            "run", "--input", source, "--output", output, "--base-url", server.url, *SYNC,
            "--workers", workers, "--concurrency", 2, "--no-report",
        )  # fmt: skip
        write_export(source, rows)
        began = time.monotonic()
        assert starter.finish(words, tmp_path / "first").code == 0
        whole_s = time.monotonic() - began
        for night in range(1, 6):
            new = next_night(rows, night)
            distinct += len({row[0] for row in new.values()} - {row[0] for row in rows.values()})
            rows = new
            write_export(source, rows, seed=night, files=1 + night % 3)
            for _ in range(3):
                command = starter.start(
                    [*map(str, words)], tmp_path / "killed", {"GEMINI_API_KEY": "a-key"}
                )
                command.wait(chance.uniform(0.05, 0.7) * whole_s)  # A night is shorter.
                command.signal(signal.SIGKILL)
                command.wait(60)
                kills += command.code == -signal.SIGKILL
        ended = sync(server, source, output)
        assert ended.code == 0, ended.err
        assert leftovers(output) == []
        paid = server.stats()["texts"]
        print(f"{kills} kills; {paid - distinct:,} texts of {distinct:,} paid twice")
        assert kills > 3
        assert paid <= distinct + kills * 2 * 10
    assert loaded(output) == from_nothing(source, tmp_path / "other")
