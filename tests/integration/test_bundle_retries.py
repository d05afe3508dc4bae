"""The cost of a slice that Beam retries, as it does up to four times."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from apache_beam.internal.pickler import dumps, loads
from support.cli import read, run, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.cli.run_command import request_from
from bulkembed.pipeline.cli.run_command import run as run_command
from bulkembed.pipeline.run.due_work import make_job, plan_run, scan
from bulkembed.pipeline.run.plan import local_slices
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.stop import StopReason
from bulkembed.schemas.units import PlanSlice, UnitRecord
from bulkembed.transforms.dataset import run_file, worker_notes
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.embed_units import EmbedUnitsFn

TRIES = 4
UNITS, UNIT_ROWS = 4, 10
HandOut = Callable[[PlanSlice], list[UnitRecord]]


@dataclasses.dataclass(frozen=True)
class Work:
    """A job and the one slice of its plan, as the launcher makes them."""

    job: JobConfig
    plan_slice: PlanSlice
    dataset: Dataset

    def part(self, units: int) -> PlanSlice:
        """The slice's first units only: all that a worker did before it was lost."""
        (file_units,) = self.plan_slice.files
        return dataclasses.replace(self.plan_slice, files=(file_units.part(0, units),))

    def hand_out(self, plan_slice: PlanSlice) -> list[UnitRecord]:
        """The slice on a worker that knows nothing of those before it."""
        fn = loads(dumps(EmbedUnitsFn(self.job)))
        fn.setup()
        try:
            return list(fn.process(plan_slice))
        finally:
            fn.teardown()


def work(server: EmulatorServer, tmp_path: Path) -> Work:
    texts = [f"text {n}" for n in range(UNITS * UNIT_ROWS)]
    source = write_rows(tmp_path / "a.parquet", texts)
    return work_of(server, source, tmp_path / "out", UNIT_ROWS)


def work_of(server: EmulatorServer, source: Path, output: Path, unit_rows: int) -> Work:
    where = ["--input", str(source), "--output", str(output), "--base-url", server.url]
    with run_command.make_context("run", [*where, "--unit-rows", str(unit_rows)]) as context:
        request = request_from(context.params)
    dataset = Dataset.open(request.output.uri)
    scans = scan(dataset, request)
    (plan_slice,) = local_slices(plan_run(request, scans, DatasetState()), 1)
    return Work(make_job(request, request.service, scans, dataset), plan_slice, dataset)


@pytest.mark.parametrize("before", [0, 1, 3, UNITS])
def test_committed_rows_are_not_sent_again(before: int, tmp_path: Path) -> None:
    with EmulatorServer() as server:
        given = work(server, tmp_path)
        assert len(given.hand_out(given.part(before))) == before
        assert server.stats()["texts"] == before * UNIT_ROWS
        for left in (UNITS - before, *[0] * (TRIES - 1)):
            assert len(given.hand_out(given.plan_slice)) == left
        assert server.stats()["texts"] == UNITS * UNIT_ROWS
        assert server.stats()["texts_paid_twice"] == 0
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(UNITS * UNIT_ROWS))


def test_committed_small_files_are_not_sent_again(tmp_path: Path) -> None:
    files, rows = 30, 2
    for file in range(files):
        ids = [file * rows + row for row in range(rows)]
        write_rows(tmp_path / f"in/f{file:02}.parquet", [f"text {n}" for n in ids], id=ids)
    with EmulatorServer() as server:
        given = work_of(server, tmp_path / "in", tmp_path / "out", unit_rows=20)
        some = dataclasses.replace(given.plan_slice, files=given.plan_slice.files[:17])
        assert [one.unit for one in given.hand_out(some)] == [
            unit for file in some.files for unit in file.units
        ]
        assert len(Dataset.open(str(tmp_path / "out")).state().groups) == 2
        for left in (files - 17, *[0] * (TRIES - 1)):
            assert len(given.hand_out(given.plan_slice)) == left
        assert server.stats()["texts"] == files * rows
        assert server.stats()["texts_paid_twice"] == 0
    state = Dataset.open(str(tmp_path / "out")).state()
    assert len(state.records) == files
    assert [len(group.members) for group in state.groups if len(group.members) == 10] == [10, 10]
    assert len(state.groups) == 4
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(files * rows))


def test_a_rejected_job_is_rejected_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "another-key")
    with EmulatorServer(EmulatorSettings(api_key="the-key")) as server:
        given = work(server, tmp_path)
        for _ in range(TRIES):
            assert given.hand_out(given.plan_slice) == []
        assert server.stats()["calls"] == 1
    (stop,) = worker_notes.read_stops(given.dataset, given.job.run_id)
    assert stop.reason is StopReason.REJECTED


def test_a_runner_that_retries_bundles_sends_a_rejected_job_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "another-key")
    source = write_rows(tmp_path / "a.parquet", ["a text", "another"])
    with EmulatorServer(EmulatorSettings(api_key="the-key")) as server:
        ended = run(server.url, source, tmp_path / "out", "--runner", "BundleBasedDirectRunner")
        assert ended.code == 1, ended.err
        assert server.stats()["calls"] == 1


def test_a_slice_of_a_run_that_has_lost_its_dataset_sends_nothing(tmp_path: Path) -> None:
    with EmulatorServer() as server:
        given = work(server, tmp_path)
        old = dataclasses.replace(given, job=run_file.take(given.dataset, given.job, {}))
        assert len(old.hand_out(old.part(1))) == 1
        other = dataclasses.replace(old.job, run_id="another-run")
        new = dataclasses.replace(given, job=run_file.take(given.dataset, other, {}))
        assert new.job.run_number == old.job.run_number + 1
        assert old.hand_out(old.plan_slice) == []
        assert server.stats()["texts"] == UNIT_ROWS
        assert len(new.hand_out(new.plan_slice)) == UNITS - 1
        assert server.stats()["texts"] == UNITS * UNIT_ROWS
    assert worker_notes.read_stops(given.dataset, given.job.run_id) == []
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(UNITS * UNIT_ROWS))
