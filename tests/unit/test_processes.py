"""Whether a process has ended is known only where its number is valid."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest

from bulkembed.schemas.job import ProcessId
from bulkembed.transforms.dataset.processes import is_gone, this_process

HERE = this_process()


def test_this_process_is_running() -> None:
    assert HERE.pid == os.getpid()
    assert HERE.boot
    assert is_gone(HERE) is False


def test_an_ended_process_is_gone() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_gone(dataclasses.replace(HERE, pid=ended.pid)) is True


def test_a_process_number_that_was_reused_is_not_the_earlier_process() -> None:
    assert HERE.started
    assert is_gone(dataclasses.replace(HERE, started=HERE.started - 1)) is True


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(dataclasses.replace(HERE, boot="another"), id="another-boot"),
        pytest.param(dataclasses.replace(HERE, namespace="pid:[1]"), id="another-container"),
        pytest.param(ProcessId(HERE.pid), id="an-earlier-version"),
    ],
)
@pytest.mark.parametrize("pid", [HERE.pid, 2**22 + 1], ids=["there", "not-there"])
def test_a_process_number_from_elsewhere_gives_no_answer(other: ProcessId, pid: int) -> None:
    assert is_gone(dataclasses.replace(other, pid=pid)) is None
