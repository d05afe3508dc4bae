from __future__ import annotations

import logging
import shlex
from pathlib import Path

import pytest

from pipeline import worker
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


def test_a_path_with_blanks_is_one_word_of_the_shells_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/my python/bin/python")
    words = shlex.split(worker.command(logging.WARNING, "/tmp/a b"))
    assert words[:2] == ["exec", "/my python/bin/python"]
    assert words[-3:] == ["WARNING", "plain", "/tmp/a b"]
