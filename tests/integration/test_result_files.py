"""Files that a user names for a result."""

from __future__ import annotations

import concurrent.futures
import os
from pathlib import Path

import pytest

from bulkembed.pipeline.cli.result_files import result_file
from bulkembed.schemas.errors import OutputError


def write(path: Path, data: bytes) -> None:
    with result_file(path) as stream:
        stream.write(data)


def test_a_file_has_its_former_content_until_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    write(path, b"old")
    with result_file(path) as stream:
        stream.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_completed_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    write(path, b"old")
    with pytest.raises(TypeError):
        write(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    for data in (b"1", b"2"):
        write(link, data)
        assert target.read_bytes() == data
    assert link.is_symlink()


def test_a_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        read = thread.submit(pipe.read_bytes)
        write(pipe, b"data")
        assert read.result(20) == b"data"
    assert pipe.is_fifo()


@pytest.mark.parametrize(("name", "reason"), [("", "Is a directory"), ("a/b", "No such file")])
def test_a_file_that_cannot_be_written_is_an_error_at_once(
    tmp_path: Path, name: str, reason: str
) -> None:
    with (
        pytest.raises(OutputError, match=f"cannot be written: {reason}"),
        result_file(tmp_path / name),
    ):
        pytest.fail("the body must not run")
