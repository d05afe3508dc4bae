"""Five nights with one process, with two workers, and on stores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.stores import STORES

from bulkembed.emulator.server import EmulatorServer
from nights.catalogue import Night
from nights.jobs import NightlyJob
from nights.places import Bucket, Disk, Place
from nights.play import FromNothing, play_files, play_sync

pytestmark = [pytest.mark.nights, pytest.mark.timeout(600)]


TWO_WORKERS = ("--workers", 2)
PLACES = {
    "disk": ("disk", ()),
    "disk, two workers": ("disk", TWO_WORKERS),
    "s3": ("s3", ()),
    "s3, two workers": ("s3", TWO_WORKERS),
    "gcs": ("gs", ()),
}
"""Where a dataset is, and more flags of its runs."""


@contextlib.contextmanager
def open_place(name: str, more: tuple[object, ...], folder: Path) -> Iterator[Place]:
    """Open a disk, or a store with a server of its own."""
    if name == "disk":
        yield Disk(folder, more)
        return
    try:
        running = STORES[name]()
        with running as store:
            yield Bucket(store, "catalogue", folder / "fetched", more)
    except LookupError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def nights(
    job: NightlyJob, more_nights: Sequence[Night], whole_nights: Sequence[Night]
) -> Sequence[Night]:
    """The whole corpus on a disk, and a part of it where each request takes its time."""
    return whole_nights if isinstance(job.place, Disk) else more_nights


@pytest.fixture(params=list(PLACES))
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NightlyJob]:
    name, more = PLACES[request.param]
    with EmulatorServer() as server, open_place(name, more, tmp_path) as place:
        yield NightlyJob(place, server)


def test_each_night_of_files_pays_its_new_contents_only(
    job: NightlyJob, nights: Sequence[Night], from_nothing: FromNothing
) -> None:
    play_files(job, nights, from_nothing)


def test_each_night_of_a_catalogue_pays_its_new_contents_only(
    job: NightlyJob, nights: Sequence[Night], from_nothing: FromNothing
) -> None:
    play_sync(job, nights, from_nothing)
