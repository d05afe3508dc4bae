"""Files are written atomically, on a local disk and on a store."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from bulkembed.schemas.errors import OutputError
from bulkembed.transforms.dataset.atomic_files import (
    delete_files,
    list_names,
    read_bytes,
    write_atomically,
)
from bulkembed.transforms.dataset.layout import TEMP_PREFIX

LOCAL = pafs.LocalFileSystem()


@pytest.mark.parametrize("data", [b"", b"x" * 100_000, pa.py_buffer(b"arrow")])
def test_written_content_is_read_back(tmp_path: Path, data: bytes | pa.Buffer) -> None:
    path = str(tmp_path / "deep/er/file")
    write_atomically(LOCAL, path, data)
    assert read_bytes(LOCAL, path) == bytes(data)
    assert list_names(LOCAL, str(tmp_path / "deep/er")) == ["file"]


def test_a_second_write_replaces_the_first_and_readers_see_complete_files(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "file")
    contents = [bytes([n]) * 300_000 for n in (1, 2)]
    write_atomically(LOCAL, path, contents[0])
    done = threading.Event()

    def write() -> None:
        for n in range(30):
            write_atomically(LOCAL, path, contents[n % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert read_bytes(LOCAL, path) in contents
    writer.join()
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_the_error_names_a_folder_that_cannot_be_created(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_atomically(LOCAL, str(tmp_path / "file/inside"), b"x")
    assert "then rerun the same command" in caught.value.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/x").write_text("x")
    with pytest.raises(OutputError):
        write_atomically(LOCAL, str(tmp_path / "taken"), b"x")
    assert not [name for name in tmp_path.iterdir() if name.name.startswith(TEMP_PREFIX)]


def test_a_missing_file_is_none_and_a_missing_folder_has_no_names() -> None:
    assert read_bytes(LOCAL, "/nowhere/at/all") is None
    assert list_names(LOCAL, "/nowhere/at/all") == []
    delete_files(LOCAL, ["/nowhere/at/all"])


def test_names_are_sorted_and_without_folders(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder").mkdir()
    assert list_names(LOCAL, str(tmp_path)) == ["a", "b", "c"]


def test_a_store_without_rename_gets_one_upload(tmp_path: Path) -> None:
    store = pafs.SubTreeFileSystem(str(tmp_path), LOCAL)
    write_atomically(store, "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"
    delete_files(store, ["file", "file"])
    assert list_names(store, "") == []
