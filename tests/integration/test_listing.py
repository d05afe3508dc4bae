"""Listing a folder of a dataset while others make it, or delete it."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow.fs as pafs

from bulkembed.transforms.dataset.atomic_files import list_names


def test_a_folder_that_comes_and_goes_has_no_files(tmp_path: Path) -> None:
    folder = tmp_path / "stops"
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            folder.mkdir()
            folder.rmdir()

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(20_000):
            assert list_names(pafs.LocalFileSystem(), str(folder)) == []
    finally:
        ended.set()
        other.join()
