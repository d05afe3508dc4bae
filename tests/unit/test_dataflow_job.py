"""What is rejected before anything goes to Dataflow."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from bulkembed.pipeline.runners import dataflow_job
from bulkembed.schemas.errors import ConfigError

DATAFLOW = "--runner=DataflowRunner"


@pytest.mark.parametrize(
    ("flags", "place", "words"),
    [
        pytest.param(
            ["--template_location=gs://b/t"], "gs://b/out", "not start a job", id="template"
        ),
        pytest.param(["--dry_run=yes"], "gs://b/out", "not start a job", id="dry-run"),
        pytest.param([], "out/mine", "'out/mine' is a local path", id="local"),
        pytest.param([], "file:///in", "'file:///in' is a local path", id="file-uri"),
    ],
)
def test_what_makes_no_run_or_would_be_lost_is_rejected(
    flags: list[str], place: str, words: str
) -> None:
    with pytest.raises(ConfigError, match="--runner DataflowRunner") as caught:
        dataflow_job.check(PipelineOptions([DATAFLOW, *flags]), ["gs://b/in", place])
    assert words in caught.value.message


def test_beams_google_extra_is_asked_for_by_name() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'apache-beam\[gcp\]'"):
        dataflow_job.check(PipelineOptions([DATAFLOW]), ["gs://b/in", "gs://b/out"])


def test_other_runners_may_have_what_dataflow_may_not() -> None:
    dataflow_job.check(PipelineOptions(["--runner=FlinkRunner"]), ["in", "/out"])
