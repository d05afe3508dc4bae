"""Five nights of a small catalogue: each pays its new contents only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bulkembed.emulator.server import EmulatorServer
from nights.catalogue import Night
from nights.jobs import NightlyJob
from nights.places import Disk
from nights.play import FromNothing, play_files, play_sync


@pytest.fixture
def job(tmp_path: Path) -> Iterator[NightlyJob]:
    with EmulatorServer() as server:
        yield NightlyJob(Disk(tmp_path), server)


def test_each_night_of_files_pays_its_new_contents_only(
    job: NightlyJob, few_nights: Sequence[Night], from_nothing: FromNothing
) -> None:
    play_files(job, few_nights, from_nothing)


def test_each_night_of_a_catalogue_pays_its_new_contents_only(
    job: NightlyJob, few_nights: Sequence[Night], from_nothing: FromNothing
) -> None:
    play_sync(job, few_nights, from_nothing)
