"""`--sync` on workers: the stages of Beam find, stage and remove what the launcher would."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.internal.pickler import dumps, loads
from apache_beam.runners.portability.local_job_service import LocalJobServicer
from support import media_catalogues
from support.catalogues import Catalogue, catalogue, from_nothing, loaded, sync, write_export
from support.cli import bulkembed, snapshot
from support.images import picture

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.cli.run_command import request_from
from bulkembed.pipeline.cli.run_command import run as run_command
from bulkembed.pipeline.run.due_work import make_job, scan
from bulkembed.pipeline.run.request import LOCAL_RUNNER
from bulkembed.pipeline.sync.mirror import Mirror, compare
from bulkembed.pipeline.sync.worker_comparison import WorkerComparison
from bulkembed.schemas.errors import OutputTaken
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.transforms.core.row_difference import RowDifference
from bulkembed.transforms.dataset import run_file
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import COMPARED
from bulkembed.transforms.remove_rows import RemoveFn
from bulkembed.transforms.sync.compared_rows import Comparison
from bulkembed.transforms.sync.removed_rows import write_removals
from bulkembed.transforms.sync.row_reading import by_file

pytestmark = pytest.mark.faults

LONG = "\n\n".join(f"Paragraph {n} of a long text, with some words in it." for n in range(40))


@dataclasses.dataclass(frozen=True)
class Night:
    """A dataset and the next export, as the launcher sees them."""

    dataset: Dataset
    job: JobConfig
    files: tuple[InputFile, ...]
    compared: Comparison

    @classmethod
    def of(cls, server: EmulatorServer, source: Path, output: Path, *settings: object) -> Night:
        words = ["--input", source, "--output", output, "--sync", "--dim", 128]
        words += ["--keep-columns", "price", "--base-url", server.url, *settings]
        with run_command.make_context("run", [*map(str, words)]) as context:
            request = request_from(context.params)
        dataset = Dataset.open(request.output.uri)
        scans = scan(dataset, request)
        job = make_job(request, request.service, scans, dataset)
        compared = Comparison(job.embedding, job.columns, job.row_schema, job.fetch, job.media_root)
        return cls(dataset, job, tuple(scans.inputs), compared)

    def here(self, folder: Path) -> Mirror:
        records = self.dataset.state().parts_records()
        return compare(self.dataset, self.compared, self.files, records, folder)

    def on_workers(self) -> WorkerComparison:
        """Compare in many small slices and partitions."""
        made = WorkerComparison(
            self.dataset, self.job, self.compared, self.files, self.dataset.state(),
            slice_rows=7, partition_bytes=1000,
        )  # fmt: skip
        with beam.Pipeline(LOCAL_RUNNER) as pipeline:
            made.build(pipeline)
        return made


def same_difference(one: RowDifference, other: RowDifference) -> None:
    for field in ("send", "send_why", "remove", "repeated", "repeated_by"):
        assert getattr(one, field).tolist() == getattr(other, field).tolist(), field
    assert one.tally == other.tally


def places_of(made: WorkerComparison, mirror: Mirror, night: Night) -> list[tuple[str, int]]:
    """Return the file and row of each row that is staged or read as it is."""
    found = []
    numbers = {file.name: number for number, file in enumerate(night.files)}
    for input_slice, staged in made.staged(mirror):
        for position in staged.whole:
            piece = input_slice.pieces[position]
            for first, count in piece.remaining:
                found += [(piece.number, row) for row in range(first, first + count)]
        for shard in staged.shards:
            table = pq.read_table(night.dataset.path(shard.found.name))
            names = map(numbers.__getitem__, table["source_file"].to_pylist())
            found += zip(names, table["source_row"].to_pylist(), strict=True)
    return sorted(found)


def next_night(rows: Catalogue) -> Catalogue:
    after = dict(rows)
    after["p3"], after["p4"] = ("another text", 3), ("product 4", 1000)
    after["new"], after["null"] = ("something new", 1), (None, 2)
    after["blank"] = ("", 1) if "blank" not in rows else ("no more", 1)
    del after["p5"], after["p6"]
    return after


@pytest.mark.parametrize("mode", ["truncate", "passages", "mean"])
def test_workers_find_and_stage_what_the_launcher_finds(
    server: EmulatorServer, tmp_path: Path, mode: str
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    settings = ("--long-text", mode, *(() if mode == "truncate" else ("--passage-tokens", 40)))
    rows = catalogue(50)
    rows["long"], rows["blank"] = (LONG, 1), (" ", 1)
    assert sync(server, write_export(source, rows), output, *settings).code == 0
    write_export(source, next_night(rows), seed=1, files=2)
    lines = [{"id": name, "text": f"of {name}", "price": 1} for name in ("p7", "p8", "x", "x")]
    lines += [{"id": None, "text": "without an id", "price": 1}] * 2
    packed = "".join(f"{json.dumps(line)}\n" for line in lines * 2).encode()
    (source / "more.jsonl.gz").write_bytes(gzip.compress(packed))
    night = Night.of(server, source, output, *settings)
    made, here = night.on_workers(), night.here(tmp_path)
    mirror = made.mirror()
    same_difference(mirror.found, here.found)
    assert here.found.tally.repeated == 7
    assert mirror.parts == here.parts
    sent = [(number, int(row)) for number, rows in by_file(here.found.send) for row in rows]
    assert places_of(made, mirror, night) == sent
    assert len({shard.name for _, one in made.staged(mirror) for shard in one.shards}) > 1


def test_workers_find_and_stage_rows_with_media(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = media_catalogues.catalogue("path", source, 20)
    media_catalogues.write_export(source, rows, 0, pa.string())
    assert media_catalogues.sync(server, source, output).code == 0
    rows["p3"] = ("t", media_catalogues.photo("path", source, 103), 1)
    rows["p4"] = ("t", "img/none.jpg", 1)
    rows["p5"] = ("t", "data:image/png;base64,%%%", 1)
    media_catalogues.put(source, "img/6.jpg", picture(106))
    media_catalogues.write_export(source, rows, 1, pa.string())
    night = Night.of(server, source, output, *media_catalogues.SYNC[1:])
    made, here = night.on_workers(), night.here(tmp_path)
    same_difference(made.mirror().found, here.found)
    assert here.found.tally.content == 4
    assert here.found.tally.names_files == 19
    sent = [(number, int(row)) for number, rows in by_file(here.found.send) for row in rows]
    assert places_of(made, made.mirror(), night) == sent
    assert media_catalogues.sync(server, source, output, "--max-dead-letters", 2).code == 0
    wanted = media_catalogues.from_nothing(source, tmp_path / "other", "--max-dead-letters", 2)
    assert media_catalogues.loaded(output) == wanted


def test_a_comparison_that_is_repeated_writes_the_same(
    server: EmulatorServer, tmp_path: Path
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue(30)
    assert sync(server, write_export(source, rows), output).code == 0
    night = Night.of(server, write_export(source, next_night(rows), seed=1), output)
    night.on_workers()
    written = {
        name: data for name, data in snapshot(output).items() if name.startswith("_run/staged")
    }
    assert written
    first = night.dataset.names(COMPARED)
    made = night.on_workers()
    again = snapshot(output)
    assert {name: again[name] for name in again if name.startswith("_run/staged")} == written
    assert night.dataset.names(COMPARED) == first
    same_difference(made.mirror().found, night.here(tmp_path).found)


@pytest.fixture
def removal(server: EmulatorServer, tmp_path: Path) -> tuple[Night, RemoveFn, list[str]]:
    """A dataset that a run holds, and lists of rows to remove from it."""
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue(40)
    rows["gone"] = (None, 1)
    assert sync(server, write_export(source, rows), output).code == 0
    del rows["gone"]
    kept = {name: row for name, row in rows.items() if int(name[1:]) % 3}
    night = Night.of(server, write_export(source, kept, seed=1), output)
    removals = list(night.here(tmp_path).to_remove())
    assert len(removals) > 3
    names = []
    for number in range(2):
        names.append(f"{COMPARED}/removed-{number}.npz")
        write_removals(night.dataset, names[-1], removals[number::2])
    job = run_file.take(night.dataset, night.job, {}, after=night.dataset.last_run_number())
    return dataclasses.replace(night, job=job), RemoveFn(job), names


def removed(fn: RemoveFn, name: str) -> list[str]:
    """Hand a list to a worker that knows nothing of those before it."""
    return list(loads(dumps(fn)).process(name))


def ids_of(night: Night) -> list[str]:
    """Return the ids of all committed rows; superseded parts are still there for readers."""
    found: list[str] = []
    for of_record in night.dataset.distinct_parts(night.dataset.state()):
        for name in of_record.all:
            found += pq.read_table(night.dataset.path(name))["id"].to_pylist()
    return sorted(found)


def test_rows_that_are_removed_twice_are_removed_once(
    removal: tuple[Night, RemoveFn, list[str]],
) -> None:
    night, fn, names = removal
    for name in names:
        assert removed(fn, name) == [name]
    after = snapshot(Path(night.dataset.root))
    assert ids_of(night) == sorted(f"p{n}" for n in range(40) if n % 3)
    for name in names:
        assert removed(fn, name) == [name]
    assert snapshot(Path(night.dataset.root)) == after


def test_two_workers_may_remove_the_same_rows_at_once(
    removal: tuple[Night, RemoveFn, list[str]],
) -> None:
    night, fn, names = removal
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(functools.partial(removed, fn), names * 2))
    assert found == [[name] for name in names * 2]
    assert ids_of(night) == sorted(f"p{n}" for n in range(40) if n % 3)
    assert night.dataset.damaged_records(night.dataset.state()) == []


def test_workers_of_a_run_that_has_lost_the_dataset_remove_nothing(
    removal: tuple[Night, RemoveFn, list[str]],
) -> None:
    night, fn, names = removal
    run_file.take(
        night.dataset, dataclasses.replace(night.job, run_id="another"), {},
        after=night.job.run_number,
    )  # fmt: skip
    records = night.dataset.state().records
    with pytest.raises(OutputTaken):
        removed(fn, names[0])
    assert night.dataset.state().records == records


@pytest.fixture
def job_service() -> Iterator[str]:
    """Beam's job service in Python, which executes jobs in this process."""
    service = LocalJobServicer()
    port = service.start_grpc_server()
    yield f"localhost:{port}"
    service.stop()


def test_a_job_service_compares_and_removes(
    server: EmulatorServer, job_service: str, tmp_path: Path
) -> None:
    """It keeps no counters, so a night with rows to embed needs another engine."""
    beam_flags = (
        "--sync-on", "workers", "--runner", "PortableRunner", "--", f"--job_endpoint={job_service}",
        "--environment_type=LOOPBACK",
    )  # fmt: skip
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue()
    assert sync(server, write_export(source, rows), output).code == 0
    half = {name: rows[name] for name in list(rows)[:30]}
    write_export(source, half, seed=1, files=2)
    refused = sync(server, source, output, *beam_flags)
    assert refused.code == 3, refused.err
    assert "the workers compare the rows" in refused.err
    assert len(loaded(output)) == 60
    ended = sync(server, source, output, "--max-delete", "50%", *beam_flags)
    assert ended.code == 0, ended.err
    assert "the workers remove rows" in ended.err
    assert "failed" not in ended.err
    assert "30 unchanged, 0 new, 0 changed, 30 deleted" in ended.out
    assert server.stats()["texts"] == 60
    assert loaded(output) == from_nothing(source, tmp_path / "other")
    assert not list((output / "_run/compared").iterdir())
    small = sync(server, write_export(source, half, seed=3), output, *beam_flags[2:])
    assert small.code == 0, small.err
    assert "the workers" not in small.err
    (output / "_run/compared/dead-difference-0000.npz").write_bytes(b"of a run that was killed")
    half["p1"] = ("another text", 1)
    changed = sync(server, write_export(source, half, seed=4), output)
    assert changed.code == 0, changed.err
    assert not list((output / "_run/compared").iterdir())
    rows["new"] = ("something new", 1)
    write_export(source, dict(list(rows.items())[40:]), seed=2)
    refused = sync(server, source, output, *beam_flags)
    assert refused.code == 3, refused.err
    assert not (output / "_run/staged").exists() or not list((output / "_run/staged").iterdir())
    assert bulkembed("verify", output).code == 0


def test_the_launcher_compares_and_removes_if_the_runner_fails(
    server: EmulatorServer, job_service: str, tmp_path: Path
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue(20)
    assert sync(server, write_export(source, rows), output).code == 0
    broken = (
        "--sync-on", "workers", "--runner", "PortableRunner", "--", f"--job_endpoint={job_service}",
        "--environment_type=PROCESS", '--environment_config={"command": "false"}',
    )  # fmt: skip
    del rows["p3"]
    ended = sync(server, write_export(source, rows, seed=1), output, *broken)
    assert ended.code == 0, ended.err
    assert ended.err.count("This machine does what is left") == 2
    assert "19 unchanged, 0 new, 0 changed, 1 deleted" in ended.out
    assert loaded(output) == from_nothing(source, tmp_path / "other")
