"""Five nights of a small catalogue on Flink; for workers that compare see `test_engine_sync`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from nights.catalogue import Night, five_nights
from nights.jobs import NightlyJob, made_from_nothing
from nights.places import DiskOfEngine
from nights.play import FromNothing, play_files, play_sync
from support.engines import Engine

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.demo.corpus import docstrings

pytestmark = [pytest.mark.runners, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def nights() -> Sequence[Night]:
    return five_nights(list(docstrings(("json", "logging"))))


@pytest.fixture
def job(flink_service: Engine, tmp_path: Path) -> Iterator[NightlyJob]:
    with EmulatorServer() as server:
        yield NightlyJob(DiskOfEngine(tmp_path, name="flink", engine=flink_service), server)


@pytest.fixture
def from_nothing(tmp_path_factory: pytest.TempPathFactory) -> FromNothing:
    return lambda night: made_from_nothing(night, tmp_path_factory.mktemp("nothing"))


def test_each_night_of_files_pays_its_new_contents_only(
    job: NightlyJob, nights: Sequence[Night], from_nothing: FromNothing
) -> None:
    play_files(job, nights, from_nothing)


def test_each_night_of_a_catalogue_pays_its_new_contents_only(
    job: NightlyJob, nights: Sequence[Night], from_nothing: FromNothing
) -> None:
    play_sync(job, nights, from_nothing)
