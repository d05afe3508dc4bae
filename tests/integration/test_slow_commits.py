"""The end of a run whose last uploads are slow."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

from support.jobs import a_job

from bulkembed.pipeline.progress.progress import Progress
from bulkembed.pipeline.runners.execute import TimeLimits, execute
from bulkembed.schemas.job import OutputConfig
from bulkembed.transforms.dataset import worker_notes
from bulkembed.transforms.dataset.dataset import Dataset


class Silent(Progress):
    """Shows nothing."""

    def __init__(self) -> None:
        self.ending = ""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_the_last_uploads_of_a_stopping_run_may_exceed_its_shutdown_timeout(
    tmp_path: Path,
) -> None:
    """Where they may not, the process of the test ends."""
    job = dataclasses.replace(a_job(), output=OutputConfig(uri=str(tmp_path / "out")))
    stopped, uploaded = threading.Event(), []

    def pipeline() -> dict[str, int]:
        dataset = Dataset.open(job.output.uri)
        while not worker_notes.read_stops(dataset, job.run_id):
            time.sleep(0.01)
        stopped.set()
        time.sleep(2.5)  # An upload.
        uploaded.append("part")
        return {"units_done": 1}

    limits = TimeLimits(shutdown_timeout_s=0.1, ends_at=time.monotonic())
    assert execute(pipeline, job, limits, Silent()) == {"units_done": 1}
    assert stopped.is_set()
    assert uploaded == ["part"]
