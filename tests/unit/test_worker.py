from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bulkembed.pipeline.runners.worker import OncePerRun
from bulkembed.schemas.errors import Unavailable
from bulkembed.transforms.calls.retry import Retrier
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.core.backoff import RetryWait


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("bulkembed", logging.WARNING, __file__, 1, message, args, None)


def test_only_one_worker_logs_a_message(tmp_path: Path) -> None:
    one, two = OncePerRun(tmp_path), OncePerRun(tmp_path)
    assert one.filter(record("%d calls", 3))
    assert not two.filter(record("%d calls", 3))
    assert not one.filter(record("3 calls"))
    assert two.filter(record("%d calls", 4))


def test_only_one_of_two_workers_reports_a_second_outage(tmp_path: Path) -> None:
    logged: list[str] = []
    workers = [Retrier(StopFlag(), 600, RetryWait(lambda: 0.0)) for _ in range(2)]
    filters = [OncePerRun(tmp_path) for _ in workers]

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if filters[at[0]].filter(record):
                logged.append(record.getMessage())

    at, handler, log = [0], Recorder(), logging.getLogger("bulkembed")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        for outage in range(3):
            for _ in range(5):
                for at[0], one in enumerate(workers):
                    one._report(Unavailable(f"503 of worker {at[0]}" if outage else "503"))
            for at[0], one in enumerate(workers):
                one.answered()
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    down = [line for line in logged if "503" in line]
    assert logged == [one for line in down for one in (line, "the service answers again")]
    assert len(down) == 3


def test_single_failures_are_reported_the_first_time_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    retrier = Retrier(StopFlag(), 600, RetryWait(lambda: 0.0))
    with caplog.at_level(logging.INFO, "bulkembed"):
        for _ in range(50):
            retrier._report(Unavailable("503"))
            retrier.answered()
    assert len(caplog.records) == 1


def test_without_a_folder_for_marks_every_message_is_logged(tmp_path: Path) -> None:
    nowhere = OncePerRun(tmp_path / "gone")
    assert nowhere.filter(record("a"))
    assert nowhere.filter(record("a"))
