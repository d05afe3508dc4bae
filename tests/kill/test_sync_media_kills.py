"""A night of a catalogue with photos, killed at its moments, ends as if nothing had happened."""

from __future__ import annotations

import signal
from pathlib import Path

import pyarrow as pa
import pytest
from support.images import picture
from support.killing import Job, Step, leftovers
from support.media_catalogues import (
    SYNC,
    catalogue,
    from_nothing,
    loaded,
    photo,
    put,
    sync,
    write_export,
)

from bulkembed.emulator.server import EmulatorServer

IN_FLIGHT, UNIT_ROWS = 2, 10
ARGS = (*map(str, SYNC), "--concurrency", str(IN_FLIGHT))
STEPS = (
    Step("os.rename", "/_run/staged/"),
    Step("os.rename", "/_run/units/"),
    Step("os.rename", "/_run/units/", 3),
    Step("os.rename", "/_SUCCESS"),
)
"""Staging, a commit, the removal of old rows, the end."""


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_each_moment_of_a_night_with_photos_can_be_the_last(tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    with EmulatorServer() as server:
        rows = catalogue("path", source, 40)
        assert sync(server, write_export(source, rows, 0, pa.string()), output).code == 0
        for number in range(0, 40, 5):
            put(source, f"img/{number}.jpg", picture(200 + number))
        for number in range(15):
            rows[f"n{number}"] = ("n", photo("path", source, 300 + number), 1)
        del rows["p3"]
        job = Job(server, write_export(source, rows, 1, pa.string()), output, ARGS)
        for step in STEPS:
            assert job.finish(step).code == -signal.SIGKILL, step
        ended = sync(server, source, output)
        assert ended.code == 0, ended.err
        assert leftovers(output) == []
        # What was in flight at the two kills in the middle of commits is paid again.
        assert server.stats()["texts_paid_twice"] <= 2 * IN_FLIGHT * UNIT_ROWS
    assert loaded(output) == from_nothing(source, tmp_path / "other")
