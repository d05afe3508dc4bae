"""Random histories of runs, kills, damage and changes end as the model says they must.

make test-chaos                      # 200 histories
make test-chaos HISTORIES=20 START=7 # those of the seeds 7 to 26
make test-chaos SEED=123             # one again
make test-chaos SEED=123 SHRINK=1    # and drop steps as long as it still fails
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stores import Store, s3

from chaos.history import History, generate
from chaos.model import Wrong
from chaos.places import Bucket, Disk, Place
from chaos.play import play
from chaos.processes import Starter
from chaos.shrink import shrunk

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


def seeds() -> list[int]:
    """The seeds of this run of the tests."""
    if os.environ.get("SEED"):
        return [int(os.environ["SEED"])]
    start = int(os.environ.get("START") or 1)
    return list(range(start, start + int(os.environ.get("HISTORIES") or 200)))


def place_of(seed: int) -> str:
    """Every third history is on a store."""
    return "store" if seed % 3 == 0 else "disk"


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    with Starter({}) as starter:
        yield starter


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    with s3() as store:
        yield store


def played(history: History, starter: Starter, folder: Path, place: Place) -> Wrong | None:
    """What goes wrong when a history is played."""
    try:
        play(history, starter, folder, place)
    except Wrong as wrong:
        return wrong
    return None


@pytest.mark.parametrize("seed", seeds())
def test_a_history_ends_as_the_model_says(
    seed: int, starter: Starter, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    history = generate(seed, place_of(seed))
    tries = iter(range(10**6))

    def once(history: History) -> Wrong | None:
        number = next(tries)
        folder = tmp_path / str(number)
        if history.world.place == "disk":
            return played(history, starter, folder, Disk(folder / "out"))
        store: Store = request.getfixturevalue("store")
        return played(history, starter, folder, Bucket(store, f"{tmp_path.name}-{number}/out"))

    wrong = once(history)
    if wrong is not None:
        again = f"make test-chaos SEED={seed}"
        if os.environ.get("SHRINK"):
            history, wrong = shrunk(history, wrong, once)
        print(f"\nFAILED {history}\n{wrong}", flush=True)
        pytest.fail(f"{history}\n\n{wrong}\n\nagain: {again}", pytrace=False)
