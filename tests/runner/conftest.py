from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import write_rows

from bulkembed.emulator.server import EmulatorServer


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An emulator without faults and latency, for the tests of a module."""
    with EmulatorServer() as server:
        yield server.url


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The larger one of two files of a folder."""
    write_rows(tmp_path / "in/b.parquet", ["more", "rows"])
    return write_rows(tmp_path / "in/a.parquet", [f"text {n}" for n in range(25)])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"
