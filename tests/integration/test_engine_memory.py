"""The engine of a process and Python's garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.jobs import a_job

from bulkembed.transforms.units.engine import engine_for, release


@pytest.fixture
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def full_collections() -> int:
    """Return how many full collections there are while as many objects are made as by 20 units."""
    before = gc.get_stats()[2]["collections"]
    kept = [[number] for number in range(400_000)]
    assert len(kept) == 400_000
    return int(gc.get_stats()[2]["collections"]) - before


@pytest.mark.usefixtures("thresholds")
def test_a_run_does_not_look_at_all_objects_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 70 units of short vectors in memory, such a collection takes half a second."""
    monkeypatch.setenv("GEMINI_API_KEY", "key")
    # As in a new process: other tests have left objects and thresholds.
    gc.set_threshold(700, 10, 10)
    gc.freeze()
    gc.collect()
    assert full_collections() >= 3
    engine = engine_for(a_job(str(tmp_path / "out")))
    try:
        assert full_collections() == 0
    finally:
        release(engine)
