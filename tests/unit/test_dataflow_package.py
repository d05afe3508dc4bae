"""What a flex template of Dataflow is made of."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest

from dataflow.launch import command
from dataflow.package import package


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist") / "dataflow"
    package(folder)
    return folder


def test_the_image_gets_every_file_that_it_copies(made: Path) -> None:
    (copied,) = re.findall(r"^COPY (.*) /template/$", (made / "Dockerfile").read_text(), re.M)
    for pattern in copied.split():
        assert len(list(made.glob(pattern))) == 1, pattern
    with tarfile.open(next(made.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "bulkembed/pipeline/cli/main.py", "bulkembed/schemas/job.py"} <= names
    assert re.match(r"# apache-beam==2\.", (made / "requirements.txt").read_text())


def test_the_template_has_the_flags_that_mean_something_there(made: Path) -> None:
    parameters = json.loads((made / "metadata.json").read_text())["parameters"]
    needed = [one["name"] for one in parameters if not one["isOptional"]]
    assert needed == ["input", "output"]
    names = {one["name"] for one in parameters}
    assert {"api_key_secret", "rpm", "dim"} <= names
    assert not names & {"emulator", "runner", "config", "api_key_file"}
    assert all(re.fullmatch(r"[a-z][a-z_]*", name) for name in names)


def test_the_launchers_flags_are_sorted_into_ours_and_beams() -> None:
    given = ["--runner=DataflowRunner", "--project=p", "--api_key_secret=projects/p/secrets/s"]
    given += ["--input=gs://b/*", "--output=gs://b/out"]
    given += ["--overwrite=true", "--prune=false", "--normalize=false"]
    assert command(given) == [
        "run", "--api-key-secret", "projects/p/secrets/s", "--input", "gs://b/*",
        "--output", "gs://b/out", "--overwrite", "--no-normalize",
        "--", "--runner=DataflowRunner", "--project=p",
    ]  # fmt: skip
