"""The way to Dataflow, up to the point where its workers would start."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from support.cli import Ended, process, write_rows
from support.dataflow import Service, dataflow_service
from support.killing import wait_for

from bulkembed.pipeline.runners.staging import pinned_requirements

from . import installed

pytestmark = [pytest.mark.runners, pytest.mark.timeout(600)]
KEY = "AIzaSy-a-key-that-must-not-be-found-0123"
INPUT, OUTPUT = "gs://data/in", "gs://data/out"
FLAGS = ("--project=proj-1", "--region=us-central1", "--temp_location=gs://data/tmp", "--no_auth")


@dataclasses.dataclass(frozen=True)
class Store:
    """A server for objects: the folder where it keeps them, and its address."""

    root: Path
    url: str

    def file(self, location: str) -> Path:
        """The file behind a name that Dataflow is given, of either of its two forms."""
        for prefix in ("gs://", "storage.googleapis.com/"):
            location = location.removeprefix(prefix)
        return self.root / location


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Speaks as Google's object store does; has the bucket `data` with a file in it."""
    binary = there(installed.fake_gcs)
    root = tmp_path_factory.mktemp("gcs")
    (root / "data").mkdir()
    source = write_rows(tmp_path_factory.mktemp("in") / "a.parquet", ["a text", "another"])
    with running(binary, root) as url:
        write = pafs.GcsFileSystem(anonymous=True, endpoint_override=url[7:], scheme="http")
        with write.open_output_stream("data/in/a.parquet") as stream:
            stream.write(source.read_bytes())
        yield Store(root, url)


def there(make: Callable[[], Path]) -> Path:
    try:
        return make()
    except installed.NotHere as error:
        pytest.skip(f"dataflow: {error}")


@contextlib.contextmanager
def running(binary: Path, root: Path) -> Iterator[str]:
    port = installed.free_port()
    url = f"http://127.0.0.1:{port}"
    where = ["-host", "127.0.0.1", "-port", str(port), "-external-url", url, "-scheme", "http"]
    kept = ["-backend", "filesystem", "-filesystem-root", str(root), "-log-level", "error"]
    with subprocess.Popen([binary, *where, *kept]) as server:
        try:
            wait_for(lambda: answers(url) or server.poll() is not None)
            yield url
        finally:
            server.terminate()


def answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/storage/v1/b/data"):
        return True
    return False


@pytest.fixture
def service() -> Iterator[Service]:
    with dataflow_service() as service:
        yield service


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python that has Beam's Google extra."""
    return there(installed.google_python)


def handed_in(python: Path, service: Service, store: Store, *beam: str) -> Ended:
    """`bulkembed run` on Dataflow."""
    ours = ("--input", INPUT, "--output", OUTPUT, "--rpm", "3000", "--dim", "128")
    flags = ("--runner=DataflowRunner", f"--dataflow_endpoint={service.url}", *FLAGS, *beam)
    command = (str(python), "-m", "bulkembed", "run", *ours, "--log-level", "debug", "--", *flags)
    environ = {"GEMINI_API_KEY": KEY, "STORAGE_EMULATOR_HOST": store.url}
    return process(*command, timeout_s=120, PYTHONPATH=str(Path.cwd()), **environ)


def test_dataflow_is_given_the_steps_the_package_and_the_pins_but_not_the_key(
    python: Path, service: Service, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "job.json"
    ended = handed_in(python, service, store, "--max_num_workers=8", f"--dataflow_job_file={file}")
    assert ended.code == 75, ended.err
    assert "of which 1/8 here" in ended.err
    (job,) = service.jobs
    written = json.loads(file.read_text())
    assert written["environment"]["workerPools"] == job["environment"]["workerPools"]
    (pool,) = written["environment"]["workerPools"]
    assert pool["autoscalingSettings"] == {"maxNumWorkers": 8}
    staged = {one["name"]: store.file(one["location"]) for one in pool["packages"]}
    assert staged["requirements.txt"].read_text().split() == pinned_requirements()
    (wheel,) = [path for name, path in staged.items() if name.endswith(".whl")]
    with zipfile.ZipFile(wheel) as opened:
        assert "bulkembed/transforms/embed_units.py" in opened.namelist()
        assert not [name for name in opened.namelist() if KEY.encode() in opened.read(name)]
    options = written["environment"]["sdkPipelineOptions"]["options"]
    graph = store.file(options["pipelineUrl"]).read_bytes()
    steps = beam_runner_api_pb2.Pipeline.FromString(graph).components.transforms.values()
    names = {step.unique_name for step in steps}
    assert {"Plan", "EmbedUnits/SpreadSlices", "EmbedUnits/EmbedSlice"} <= names
    given = [
        path for folder in (store.root, tmp_path) for path in folder.rglob("*") if path.is_file()
    ]
    assert not [path for path in given if KEY.encode() in path.read_bytes()]
    assert KEY not in json.dumps(job) + ended.out + ended.err


def test_a_job_that_dataflow_gives_up_is_one_sentence(
    python: Path, service: Service, store: Store
) -> None:
    service.end_state = "JOB_STATE_FAILED"
    ended = handed_in(python, service, store)
    assert ended.code == 75
    assert (
        "the Beam runner failed: Dataflow pipeline failed. State: FAILED, Error: The job"
        in ended.last
    )
    assert "uses all of it. Set --quota-share" in ended.err


def test_a_job_that_is_not_taken_is_one_sentence(
    python: Path, service: Service, store: Store
) -> None:
    ended = handed_in(python, service, store, "--project=")
    assert ended.code == 2
    assert "DataflowRunner: the job could not be submitted: Missing required" in ended.last
    assert service.jobs == []
