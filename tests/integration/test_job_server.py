"""What a user is told when Beam's engine does not start, and what is staged for its workers."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.runners.portability.portable_runner import PortableRunner
from support.cli import bulkembed, write_rows
from support.jobs import a_job

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.runners import staging
from bulkembed.transforms.embed_units import EmbedUnits

KEY = "AIzaSy-a-key-that-must-not-be-found-0123"


@pytest.mark.parametrize(
    ("runner", "flag"),
    [
        ("PrismRunner", "--prism_location=/not/there"),
        ("FlinkRunner", "--flink_job_server_jar=/not/there.jar"),
        ("SparkRunner", "--spark_job_server_jar=/not/there.jar"),
    ],
)
def test_an_engine_that_is_not_there_is_one_sentence(
    runner: str, flag: str, server: EmulatorServer, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "a.parquet", ["a text"])
    where = ("--input", source, "--output", tmp_path / "out", "--base-url", server.url)
    ended = bulkembed("run", *where, "--runner", runner, "--", flag)
    assert ended.code == 2
    assert re.search(rf"--runner {runner}: the job server does not start: .*/not/there", ended.last)
    assert "Traceback" not in ended.err
    assert server.stats()["calls"] == 0


def test_a_key_in_beams_flags_is_one_sentence(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    source = write_rows(tmp_path / "a.parquet", ["a text"])
    where = ("--input", source, "--output", tmp_path / "out", "--base-url", server.url)
    environment = '--environment_config={"command": "/boot", "env": {"MINE": "' + KEY + '"}}'
    ended = bulkembed("run", *where, "--runner", "FlinkRunner", "--", environment)
    assert ended.code == 2
    assert "--environment_config after the bare -- contains the API key" in ended.last
    assert KEY not in ended.out + ended.err
    assert not (tmp_path / "out").exists()


def test_no_byte_of_the_key_is_in_what_an_engine_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    options = PipelineOptions(["--runner=PortableRunner", "--job_endpoint=a:1"])
    with staging.staged(options):
        pipeline = beam.Pipeline(options=options)
        _ = pipeline | beam.Create([1], reshuffle=False) | EmbedUnits(a_job(str(tmp_path)))
        proto = PortableRunner.get_proto_pipeline(pipeline, options)
        setup = options.view_as(SetupOptions)
        staged = [Path(setup.requirements_file), *map(Path, setup.extra_packages)]
        with zipfile.ZipFile(staged[-1]) as wheel:
            contents = [wheel.read(name) for name in wheel.namelist()]
        contents += [path.read_bytes() for path in staged]
    assert b"EmbedSlice" in proto.SerializeToString()
    given = [proto.SerializeToString(), repr(options.get_all_options()).encode(), *contents]
    assert not [one for one in given if KEY.encode() in one]
