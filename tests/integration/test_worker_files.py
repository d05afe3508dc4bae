"""Job files of workers: which texts each gets, and what is left if workers fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from support.batches import KEY, Batches, batches, impatient
from support.cli import write_rows
from support.jobs import a_job

from bulkembed.pipeline.batch.batch_workers import BatchWorkers
from bulkembed.pipeline.batch.open_jobs import OpenJobs
from bulkembed.pipeline.batch.wanted_texts import WantedTexts, find_texts
from bulkembed.pipeline.batch.worker_files import WorkerFileMaker
from bulkembed.pipeline.run.plan import make_plan
from bulkembed.pipeline.run.scans import scan_inputs
from bulkembed.pipeline.runners.graph import Build
from bulkembed.schemas.batch import BatchConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.transforms.batch.batch_worker import BatchWork
from bulkembed.transforms.batch.run_stop import RunStop
from bulkembed.transforms.core.hashing import Keys
from bulkembed.transforms.dataset.batch_ledger import NO_TEXTS, BatchLedger
from bulkembed.transforms.dataset.dataset import Dataset

TEXTS = [f"text {n}" for n in range(10)]
TOKENS = 2
"""Of each text, as estimated."""


def knows_none(keys: Keys) -> npt.NDArray[np.bool_]:
    """Of texts alone, the launcher knows which are missing."""
    return np.zeros(len(keys), bool)


def run_here(build: Build) -> None:
    """A cluster of one worker."""
    with beam.Pipeline(options=PipelineOptions(["--direct_num_workers=1"])) as pipeline:
        build(pipeline)


def fail(_: Build) -> str:
    """A cluster whose workers are lost."""
    return "the workers are lost"


@dataclasses.dataclass(frozen=True)
class Given:
    """Texts for a maker of job files."""

    one: Batches
    maker: WorkerFileMaker
    texts: WantedTexts
    runs: list[Build]

    def jobs(self) -> list[BatchJob]:
        """Submit all texts, as far as they fit."""
        self.maker.begin(self.texts, knows_none)
        found = []
        while self.maker.is_left and (job := self.maker.next_job()) is not None:
            found.append(self.maker.jobs.creation.create(job.upload()))
        return found


@pytest.fixture
def making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Given]]:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    write_rows(tmp_path / "in/a.parquet", [*TEXTS[:6], "", "text 1"])
    write_rows(tmp_path / "in/b.parquet", TEXTS[4:])
    with batches(tmp_path, seconds=1.0) as one:

        def given(run: Callable[[Build], str | None] = run_here, **settings: Any) -> Given:
            job = a_job(str(tmp_path / "out"), service=one.service, embedding=one.embedding)
            dataset = Dataset.open(job.output.uri)
            scans = scan_inputs(dataset, [str(tmp_path / "in")], job.columns)
            plan = make_plan(scans.inputs, dataset.state(), 3)
            window = find_texts(dataset, job, plan, dataset.state(), tmp_path, (), NO_TEXTS["key"])
            config = BatchConfig(**settings)
            ledger, runs = BatchLedger(dataset), list[Build]()

            def run_stage(build: Build) -> str | None:
                runs.append(build)
                return run(build)

            stop = RunStop(dataset, job.run_id)
            workers = BatchWorkers(BatchWork(job, config), dataset, stop, run_stage)
            jobs = OpenJobs(one.client, ledger, config, impatient([]), job.embedding)
            maker = WorkerFileMaker(workers, one.client, ledger, jobs, tmp_path)
            return Given(one, maker, window.missing, runs)

        yield given


@pytest.mark.parametrize("run", [run_here, fail])
def test_each_text_is_in_one_file_whoever_writes_it(
    making: Callable[..., Given], run: Callable[[Build], str | None]
) -> None:
    given = making(run, job_rows=4)
    jobs = given.jobs()
    assert [job.rows for job in jobs] == [4, 4, 2]
    assert len(given.runs) == 1
    check(given, jobs)
    gather = Path(given.maker.ledger.dataset.path("_run/gather"))
    assert list(gather.iterdir()) == []


def check(given: Given, jobs: list[BatchJob]) -> None:
    """Each text is in one of the jobs, and the ledger is what was read again."""
    ledger = BatchLedger(given.maker.ledger.dataset)
    found = [texts for job in jobs if (texts := ledger.text_keys(job)) is not None]
    assert sorted(np.concatenate(found)) == sorted(given.texts.keys)
    assert list(ledger.jobs) == jobs
    assert given.one.counts["files_left"] == len(jobs)


def test_texts_that_do_not_fit_into_a_file_are_in_the_next_one(
    making: Callable[..., Given],
) -> None:
    given = making(job_rows=5, job_bytes=500)
    jobs = given.jobs()
    assert len(jobs) > 2
    assert all(job.file_bytes <= 500 for job in jobs)
    check(given, jobs)


def test_files_share_the_room_for_tokens_and_wait_for_more(making: Callable[..., Given]) -> None:
    given = making(job_rows=3, enqueued_tokens=7 * TOKENS)
    jobs = given.jobs()
    assert sum(job.tokens for job in jobs) <= 7 * TOKENS
    assert len(given.runs) == len(jobs)
    runs = len(given.runs)
    assert given.maker.next_job() is None
    assert len(given.runs) == runs  # No worker is started for less than the longest text.


def test_a_text_that_is_larger_than_the_quota_is_named(making: Callable[..., Given]) -> None:
    given = making(enqueued_tokens=1)
    with pytest.raises(ConfigError, match="leaves room for 1 token, but one text has about 2"):
        given.jobs()


def test_the_ledger_names_each_file_before_workers_begin(making: Callable[..., Given]) -> None:
    """So the next run deletes what they have uploaded if the launcher is killed now."""
    seen: list[list[LedgerState]] = []

    def killed(build: Build) -> None:
        run_here(build)
        seen.append([job.state for job in BatchLedger(given.maker.ledger.dataset).jobs])
        raise KeyboardInterrupt

    given = making(killed, job_rows=4)
    with pytest.raises(KeyboardInterrupt):
        given.jobs()
    assert seen == [[LedgerState.PLANNED] * 3]
    assert given.one.counts["files_left"] == 3
    ledger = BatchLedger(given.maker.ledger.dataset)
    OpenJobs(given.one.client, ledger, BatchConfig(), impatient([]), a_job().embedding).recover("")
    assert given.one.counts["files_left"] == 0
    assert ledger.jobs == ()


def test_files_that_wait_are_not_written_again_and_are_deleted_in_the_end(
    making: Callable[..., Given],
) -> None:
    given = making(job_rows=4)
    maker = given.maker
    maker.begin(given.texts, knows_none)
    first = maker.next_job()
    assert first is not None
    maker.put_back(first)
    maker.begin(given.texts, knows_none)
    assert maker.next_job() is first
    maker.put_back(first)
    assert (len(given.runs), given.one.counts["files_left"]) == (1, 3)
    maker.close()
    assert given.one.counts["files_left"] == 0
    assert BatchLedger(maker.ledger.dataset).jobs == ()
