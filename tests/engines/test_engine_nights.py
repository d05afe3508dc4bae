"""Nights of a small catalogue on Flink: each pays its new contents only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from nights.catalogue import Night, five_nights, half_of
from nights.jobs import NightlyJob, made_from_nothing
from nights.model import changes, new_contents
from nights.places import DiskOfEngine
from nights.play import FromNothing, check_changes, counts_of, done, refused
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
    first, second = nights[:2]
    job.place.export(first)
    done(job, "out")
    assert job.paid() == new_contents({}, first.rows)
    job.place.export(second)
    refused(job, "out", 2, ("--prune", "--missing-files keep"))
    state = job.state("out")
    done(job, "out", "--prune")
    assert job.paid() == new_contents(first.rows, second.rows)
    assert job.loaded("out", second.columns) == from_nothing(second)
    check_changes(job, (first, second), state, from_nothing)


def test_each_night_of_a_catalogue_pays_its_new_contents_only(
    job: NightlyJob, nights: Sequence[Night], from_nothing: FromNothing
) -> None:
    first, second = nights[:2]
    job.place.export(first)
    sync = ("--sync", "--sync-on", "workers")
    done(job, "out", *sync)
    assert job.paid() == new_contents({}, first.rows)
    state = job.state("out")
    job.place.export(second)
    ended = job.run("out", *sync)
    assert ended.code == 0, ended.err
    assert "the workers compare the rows" in ended.err
    assert "the workers remove rows" in ended.err
    assert "failed" not in ended.err
    assert job.paid() == new_contents(first.rows, second.rows)
    assert job.loaded("out", second.columns) == from_nothing(second)
    assert counts_of(changes(first.rows, second.rows, first.columns)) in ended.out
    check_changes(job, (first, second), state, from_nothing)
    job.place.export(half_of(second, 3))
    refused(job, "out", 3, ("--max-delete",), *sync)
    assert job.loaded("out", second.columns) == from_nothing(second)
