"""What is staged for workers on other machines, and when."""

from __future__ import annotations

import dataclasses
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from packaging.requirements import Requirement

from bulkembed.pipeline.runners import staging
from bulkembed.pipeline.runners.beam_options import installs_packages
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.media_settings import MediaSettings

PROCESS = ("--environment_type=PROCESS", '--environment_config={"command":"/boot"}')


@pytest.mark.parametrize(
    ("flags", "installs"),
    [
        pytest.param(["--runner=FnApiRunner"], False, id="in-this-process"),
        pytest.param(["--runner=PrismRunner"], False, id="prism"),
        pytest.param(["--runner=PrismRunner", *PROCESS], True, id="prism-with-processes"),
        pytest.param(["--runner=FlinkRunner"], False, id="flink-of-its-own"),
        pytest.param(["--runner=FlinkRunner", "--flink_master=a:8081"], True, id="flink"),
        pytest.param(["--runner=SparkRunner"], False, id="spark-of-its-own"),
        pytest.param(["--runner=SparkRunner", "--spark_master_url=spark://a:1"], True, id="spark"),
        pytest.param(["--runner=PortableRunner", "--job_endpoint=a:1"], True, id="portable"),
        pytest.param(
            ["--runner=PortableRunner", "--job_endpoint=a:1", "--environment_type=LOOPBACK"],
            False,
            id="portable-in-this-process",
        ),
        pytest.param(["--runner=DataflowRunner"], True, id="dataflow"),
    ],
)
def test_code_is_staged_for_workers_that_install_it(flags: list[str], installs: bool) -> None:
    options = PipelineOptions(flags)
    assert installs_packages(options) is installs
    with staging.staged(options):
        assert bool(options.view_as(SetupOptions).extra_packages) is installs


def test_the_wheel_is_beside_the_users_packages_and_their_requirements_stay(
    tmp_path: Path,
) -> None:
    mine = tmp_path / "mine.txt"
    flags = ["--runner=DataflowRunner", "--extra_package=a.whl", f"--requirements_file={mine}"]
    options = PipelineOptions(flags)
    with staging.staged(options):
        setup = options.view_as(SetupOptions)
        first, wheel = setup.extra_packages
        assert (first, setup.requirements_file) == ("a.whl", str(mine))
        assert Path(wheel).exists()
    assert not Path(wheel).exists()


def test_the_wheel_holds_what_a_worker_imports_and_is_the_same_each_time(tmp_path: Path) -> None:
    one, two = (staging.write_wheel(tmp_path / name) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as wheel:
        names = wheel.namelist()
        record = wheel.read(names[-1]).decode().splitlines()
    assert {name.split("/")[0] for name in names[:-3]} == {"bulkembed"}
    assert "bulkembed/transforms/embed_units.py" in names
    assert not any(name.startswith("bulkembed/emulator/") for name in names)
    assert [line.split(",")[0] for line in record] == names


def test_pins_name_what_the_package_needs_beside_beam() -> None:
    pins = dict(pin.split("==") for pin in staging.pinned_requirements())
    direct = {Requirement(line) for line in metadata.requires("bulkembed") or []}
    wanted = {one.name for one in direct if one.marker is None} - {"apache-beam"}
    assert wanted <= pins.keys()
    assert pins["pyarrow"] == metadata.version("pyarrow")
    assert not pins.keys() & {"apache-beam", "duckdb", "wordllama", "bulkembed"}


def test_pins_of_a_job_with_media_name_what_looks_at_it_too() -> None:
    texts = EmbeddingConfig("developer", "gemini-embedding-2")
    media = dataclasses.replace(texts, media=MediaSettings())
    assert staging.extras_for(texts) == ()
    plain = set(staging.pinned_requirements())
    more = {pin.split("==")[0] for pin in {*staging.pinned_requirements(["media"])} - plain}
    assert {"pillow", "pypdf"} <= more
    # What an extra of a dependency needs counts as well: pypdf[crypto].
    assert "cryptography" in {*more, *(pin.split("==")[0] for pin in plain)}
    options = PipelineOptions(["--runner=DataflowRunner"])
    with staging.staged(options, staging.extras_for(media)):
        staged = Path(options.view_as(SetupOptions).requirements_file).read_text()
    assert staged.split() == staging.pinned_requirements(["media"])
