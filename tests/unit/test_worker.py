from __future__ import annotations

import logging
from pathlib import Path

from pipeline.worker import OnceARun


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("bulkembed", logging.WARNING, __file__, 1, message, args, None)


def test_a_sentence_is_said_by_one_worker_only(tmp_path: Path) -> None:
    one, two = OnceARun(tmp_path), OnceARun(tmp_path)
    assert one.filter(record("%d calls", 3))
    assert not two.filter(record("%d calls", 3))
    assert not one.filter(record("3 calls"))
    assert two.filter(record("%d calls", 4))


def test_without_a_place_for_marks_all_is_said(tmp_path: Path) -> None:
    nowhere = OnceARun(tmp_path / "gone")
    assert nowhere.filter(record("a"))
    assert nowhere.filter(record("a"))
