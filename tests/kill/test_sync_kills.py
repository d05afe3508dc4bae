"""A synchronisation that is killed at any moment ends as if nothing had happened."""

from __future__ import annotations

import random
import secrets
import signal
from pathlib import Path

import pytest
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
def test_nights_that_are_killed_at_random(tmp_path: Path, workers: int) -> None:
    seed = secrets.randbelow(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    output, source = tmp_path / "out", tmp_path / "in"
    args = (*SYNC, "--workers", str(workers), "--concurrency", "2")
    rows, kills, distinct = catalogue(300), 0, 300
    with EmulatorServer(EmulatorSettings(latency_ms=20)) as server:
        assert sync(server, write_export(source, rows), output).code == 0
        for night in range(1, 6):
            new = next_night(rows, night)
            distinct += len({row[0] for row in new.values()} - {row[0] for row in rows.values()})
            rows = new
            write_export(source, rows, seed=night, files=1 + night % 3)
            job = Job(server, source, output, args)
            for _ in range(3):
                process = job.start()
                with_time = chance.uniform(2, 9)
                try:
                    process.wait(with_time)
                except Exception:
                    process.kill()
                    kills += 1
                process.communicate()
        ended = sync(server, source, output)
        assert ended.code == 0, ended.err
        assert leftovers(output) == []
        paid = server.stats()["texts"]
        print(f"{kills} kills; {paid - distinct:,} texts of {distinct:,} paid twice")
        assert paid <= distinct + kills * 2 * 10
    assert loaded(output) == from_nothing(source, tmp_path / "other")
