"""One run at a time on an object store, against a server that speaks S3."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import threading
from collections.abc import Iterator

import pytest
from support.stores import BUCKET, Store, s3

from bulkembed.schemas.errors import OutputLocked
from bulkembed.schemas.job import ProcessId
from bulkembed.transforms.dataset import output_lock
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import CLAIMS
from bulkembed.transforms.dataset.output_lock import LockOwner

HERE = LockOwner("run-1", "local")
ELSEWHERE = dataclasses.replace(
    HERE, run_id="run-0", host="another", process=ProcessId(1, "boot", "namespace")
)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3() as running:
        yield running


@pytest.fixture
def dataset(store: Store, request: pytest.FixtureRequest) -> Dataset:
    return Dataset(store.filesystem, f"{BUCKET}/{request.node.name}")


def leave(dataset: Dataset, owner: LockOwner) -> None:
    """Write a claim as a killed run leaves it."""
    dataset.write(output_lock.claim_name(owner), owner.to_json())


def test_a_second_run_is_rejected_and_the_error_names_the_owner(dataset: Dataset) -> None:
    with output_lock.acquire(dataset, HERE) as before:
        assert before is None
        second = output_lock.acquire(dataset, LockOwner("run-2", "local"))
        with pytest.raises(OutputLocked, match=f"run run-1 .*process {os.getpid()} on"), second:
            pytest.fail("two runs own one output")
        assert output_lock.current_owner(dataset) == HERE
    assert output_lock.current_owner(dataset) is None
    assert dataset.names(CLAIMS) == []


def test_of_many_runs_that_start_at_once_at_most_one_continues(dataset: Dataset) -> None:
    start, answered = threading.Barrier(8), threading.Barrier(8)

    def continues(number: int) -> bool:
        start.wait(30)
        try:
            with output_lock.acquire(dataset, LockOwner(f"run-{number}", "local")):
                answered.wait(30)
                return True
        except OutputLocked:
            answered.wait(30)
            return False

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(continues, range(8))) <= 1
    assert dataset.names(CLAIMS) == []


def test_an_owner_elsewhere_is_alive_while_it_sends_heartbeats(dataset: Dataset) -> None:
    leave(dataset, ELSEWHERE)
    with pytest.raises(OutputLocked, match="on another"), output_lock.acquire(dataset, HERE):
        pytest.fail("the owner is alive")
    with output_lock.acquire_by_claim(dataset, HERE, dead_after_s=0) as before:
        assert before == ELSEWHERE
        assert dataset.names(CLAIMS) == ["run-1.json"]


def test_the_claim_of_a_dead_owner_on_this_host_is_taken_over_at_once(dataset: Dataset) -> None:
    no_process = 2**22 + 1  # More than Linux gives.
    process = dataclasses.replace(HERE.process, pid=no_process)
    dead = dataclasses.replace(HERE, run_id="run-0", process=process)
    leave(dataset, dead)
    with output_lock.acquire(dataset, HERE) as before:
        assert before == dead


def test_unfinished_claims_of_dead_owners_are_deleted(dataset: Dataset) -> None:
    no_process = 2**22 + 1  # More than Linux gives.
    dead = dataclasses.replace(HERE, process=dataclasses.replace(HERE.process, pid=no_process))
    for name, content in {
        "dead": dead.to_json(), "here": HERE.to_json(), "elsewhere": ELSEWHERE.to_json(),
        "empty": b"",
    }.items():  # fmt: skip
        dataset.write(f"{CLAIMS}/.tmp-12345678-{name}.json", content)

    def unfinished() -> list[str]:
        return [name.removeprefix(".tmp-12345678-") for name in dataset.names(CLAIMS)]

    with output_lock.acquire(dataset, HERE):
        assert unfinished() == ["elsewhere.json", "empty.json", "here.json", "run-1.json"]
    with output_lock.acquire_by_claim(dataset, HERE, dead_after_s=0):
        assert unfinished() == ["here.json", "run-1.json"]


def test_a_claim_that_cannot_be_read_counts_as_a_living_owners(dataset: Dataset) -> None:
    dataset.write(f"{CLAIMS}/run-0.json", b"")
    with pytest.raises(OutputLocked, match="another run"), output_lock.acquire(dataset, HERE):
        pytest.fail("somebody is about to begin")
