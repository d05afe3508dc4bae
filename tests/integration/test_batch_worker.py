"""Workers of a cluster write job files and collect results, however often a task is repeated."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from apache_beam.internal.pickler import dumps, loads
from support.batches import KEY, Batches, batches
from support.cli import write_rows
from support.jobs import a_job

from bulkembed.pipeline.batch.wanted_texts import WantedTexts, find_texts
from bulkembed.pipeline.run.plan import make_plan
from bulkembed.pipeline.run.scans import scan_inputs
from bulkembed.schemas.batch import BatchConfig
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.schemas.stop import Stop, StopReason
from bulkembed.schemas.units import SharedSlice
from bulkembed.transforms.batch.batch_worker import (
    BatchWork,
    ResultTask,
    file_report,
    result_report,
)
from bulkembed.transforms.batch.collected import ResultFacts
from bulkembed.transforms.batch.task_outcomes import TaskOutcome, read_outcome
from bulkembed.transforms.batch.uploaded_files import FileFacts, FileTask
from bulkembed.transforms.batch_stages import CollectFn, UploadFileFn
from bulkembed.transforms.dataset import worker_notes
from bulkembed.transforms.dataset.batch_ledger import NO_TEXTS, BatchLedger, new_name
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.picks_file import write_picks
from bulkembed.transforms.dataset.work_lists import delete_lists

TEXTS = [f"text {n}" for n in range(9)]


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A run with a service, whose tasks are done by hand as a worker does them."""

    one: Batches
    job: JobConfig
    dataset: Dataset
    texts: WantedTexts
    ledger: BatchLedger

    def work(self, **settings: Any) -> BatchWork:
        return BatchWork(self.job, BatchConfig(**settings))

    def file_task(self, room: int | None = None) -> FileTask:
        name = new_name()
        picks = write_picks(self.dataset, self.job.run_id, SharedSlice(name, self.texts.files))
        return FileTask(name, picks, room)

    def do(self, fn: Callable[[BatchWork], Any], task: Any, **settings: Any) -> list[str]:
        """Do a task on a worker that knows nothing of those before it."""
        worker = loads(dumps(fn(self.work(**settings))))
        worker.setup()
        try:
            return list(worker.process(pickle.loads(pickle.dumps(task))))
        finally:
            worker.teardown()

    def uploaded(self, task: FileTask) -> TaskOutcome[FileFacts] | None:
        return read_outcome(self.dataset, self.job.run_id, file_report(task.name), FileFacts)

    def collected(self, task: ResultTask) -> TaskOutcome[ResultFacts] | None:
        return read_outcome(self.dataset, self.job.run_id, result_report(task.name), ResultFacts)

    def ended_job(self) -> ResultTask:
        """A job that a worker has written the file of, and that has ended."""
        task = self.file_task()
        self.do(UploadFileFn, task)
        outcome = self.uploaded(task)
        assert outcome is not None
        assert outcome.facts is not None
        created = self.one.client.create(outcome.facts.file, task.name)
        entry = BatchJob(
            display_name=task.name, state=LedgerState.CREATED, rows=9, tokens=1, token_bound=1,
            file_bytes=1, contents="", embedding_digest="", planned_at=1.0, job=created.name,
        )  # fmt: skip
        self.ledger.add(entry, outcome.texts)
        self.one.time.now_s += 10
        remote = self.one.client.get(created.name)
        assert remote is not None
        assert remote.state.is_over
        return ResultTask(entry, remote)


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Cluster]]:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    write_rows(tmp_path / "in/a.parquet", [*TEXTS[:5], "", "text 1"])
    write_rows(tmp_path / "in/b.parquet", TEXTS[3:])
    with batches(tmp_path, seconds=1.0) as one:

        def cluster() -> Cluster:
            job = a_job(str(tmp_path / "out"), service=one.service, embedding=one.embedding)
            dataset = Dataset.open(job.output.uri)
            scans = scan_inputs(dataset, [str(tmp_path / "in")], job.columns)
            plan = make_plan(scans.inputs, dataset.state(), 3)
            window = find_texts(dataset, job, plan, dataset.state(), tmp_path, (), NO_TEXTS["key"])
            return Cluster(one, job, dataset, window.missing, BatchLedger(dataset))

        yield cluster


def calls(one: Batches, kind: str) -> int:
    return sum(one.counts["calls"].get(kind, {}).values())


@pytest.mark.parametrize("fn", [UploadFileFn, CollectFn])
def test_a_stage_can_be_pickled_and_carries_no_key(
    fn: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    stage = fn(BatchWork(a_job(str(tmp_path)), BatchConfig()))
    for data in (dumps(stage), pickle.dumps(stage)):
        assert KEY.encode() not in (data if isinstance(data, bytes) else data.encode())
    again = loads(dumps(stage))
    assert again._work.job.run_id == "run-1"
    again.teardown()  # It was never started.
    assert not list(tmp_path.iterdir())


def test_a_repeated_task_uploads_its_file_once(given: Callable[..., Cluster]) -> None:
    cluster = given()
    task = cluster.file_task()
    assert cluster.do(UploadFileFn, task) == [task.name]
    first = cluster.uploaded(task)
    assert first is not None
    assert first.facts is not None
    assert sorted(first.texts["key"]) == sorted(cluster.texts.keys)
    sent = calls(cluster.one, "upload")
    assert cluster.do(UploadFileFn, task) == [task.name]
    assert calls(cluster.one, "start") == 1
    # A worker that was killed before its report: the service has its file already.
    delete_lists(cluster.dataset, cluster.job.run_id, [file_report(task.name)])
    assert cluster.do(UploadFileFn, task) == [task.name]
    again = cluster.uploaded(task)
    assert again is not None
    assert (again.facts, again.texts.tolist()) == (first.facts, first.texts.tolist())
    assert (calls(cluster.one, "upload"), cluster.one.counts["files_left"]) == (sent, 1)
    assert cluster.ledger.jobs == BatchLedger(cluster.dataset).jobs == ()


def test_two_workers_with_the_same_task_upload_one_file(given: Callable[..., Cluster]) -> None:
    cluster = given()
    task = cluster.file_task()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        done = list(pool.map(functools.partial(cluster.do, UploadFileFn), [task, task]))
    assert done == [[task.name]] * 2
    assert cluster.one.counts["files_left"] == 1
    outcome = cluster.uploaded(task)
    assert outcome is not None
    assert outcome.facts is not None
    job = cluster.one.client.create(outcome.facts.file, task.name)
    cluster.one.time.now_s += 10
    ended = cluster.one.client.get(job.name)
    assert ended is not None
    assert len(cluster.one.lines(ended)) == len(TEXTS)


@pytest.mark.parametrize(
    ("room", "settings", "texts"),
    [
        pytest.param(None, {"job_rows": 4}, 4, id="rows"),
        pytest.param(None, {"job_bytes": 320}, 2, id="bytes"),
        pytest.param(7, {}, 3, id="tokens"),
        pytest.param(1, {}, 0, id="not-even-one"),
    ],
)
def test_texts_that_do_not_fit_are_reported(
    given: Callable[..., Cluster], room: int | None, settings: dict[str, int], texts: int
) -> None:
    cluster = given()
    task = cluster.file_task(room)
    cluster.do(UploadFileFn, task, **settings)
    outcome = cluster.uploaded(task)
    assert outcome is not None
    assert outcome.facts is not None
    assert outcome.facts.next_tokens == 2
    assert len(outcome.texts) == texts
    assert set(outcome.texts["key"]) == set(cluster.texts.keys[:texts])
    assert bool(outcome.facts.file) == bool(texts) == bool(cluster.one.counts["files_left"])


def test_repeated_results_are_written_again_under_the_same_name(
    given: Callable[..., Cluster],
) -> None:
    cluster = given()
    task = cluster.ended_job()
    assert cluster.do(CollectFn, task) == [task.name]
    first = cluster.collected(task)
    assert first is not None
    assert first.facts is not None
    part = Path(cluster.dataset.path(first.facts.answers))
    vectors = pq.read_table(part)
    assert (vectors.num_rows, first.facts.counts.texts, len(first.texts)) == (9, 9, 0)
    downloads = calls(cluster.one, "download")
    cluster.do(CollectFn, task)
    assert calls(cluster.one, "download") == downloads
    delete_lists(cluster.dataset, cluster.job.run_id, [result_report(task.name)])
    cluster.do(CollectFn, task)
    again = cluster.collected(task)
    assert again is not None
    assert again.facts == first.facts
    assert pq.read_table(part).equals(vectors)
    assert [path.name for path in part.parent.glob("*.parquet")] == [part.name]
    assert BatchLedger(cluster.dataset).jobs == (task.entry,)


def test_a_worker_that_cannot_do_a_task_says_why_and_may_try_again(
    given: Callable[..., Cluster],
) -> None:
    cluster = given()
    task = cluster.ended_job()
    gone = dataclasses.replace(task.remote, results=("files/gone",))
    cluster.do(CollectFn, dataclasses.replace(task, remote=gone))
    failed = cluster.collected(task)
    assert failed is not None
    assert failed.facts is None
    assert "files/gone" in failed.report.problem
    cluster.do(CollectFn, task)
    done = cluster.collected(task)
    assert done is not None
    assert done.facts is not None


def test_a_worker_of_a_stopped_run_does_nothing(given: Callable[..., Cluster]) -> None:
    cluster = given()
    worker_notes.write_stop(
        cluster.dataset, cluster.job.run_id, Stop(StopReason.SIGNAL, "stopped", 1.0)
    )
    task = cluster.file_task()
    cluster.do(UploadFileFn, task)
    assert cluster.uploaded(task) is None
    assert calls(cluster.one, "start") == 0


def test_a_worker_of_a_run_that_lost_its_dataset_does_nothing(
    given: Callable[..., Cluster],
) -> None:
    cluster = given()
    task = cluster.file_task()
    cluster.dataset.write_json("_run/run.json", {"run_number": 2, "last_run_id": "other"})
    cluster.do(UploadFileFn, task)
    outcome = cluster.uploaded(task)
    assert outcome is not None
    assert outcome.facts is None
    assert "taken over" in outcome.report.problem
    assert calls(cluster.one, "start") == 0
