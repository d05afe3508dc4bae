"""Five nights of the whole corpus, with one process and with two workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bulkembed.emulator.server import EmulatorServer
from nights.catalogue import Night
from nights.jobs import NightlyJob
from nights.places import Disk
from nights.play import FromNothing, play_files

pytestmark = [pytest.mark.nights, pytest.mark.timeout(600)]


@pytest.fixture(params=["disk", "two workers"])
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NightlyJob]:
    more = ("--workers", 2) if request.param == "two workers" else ()
    with EmulatorServer() as server:
        yield NightlyJob(Disk(tmp_path, more), server)


def test_each_night_of_files_pays_its_new_contents_only(
    job: NightlyJob, whole_nights: Sequence[Night], from_nothing: FromNothing
) -> None:
    play_files(job, whole_nights, from_nothing)
