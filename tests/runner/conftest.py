from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import write_rows


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The larger one of two files of a folder."""
    write_rows(tmp_path / "in/b.parquet", ["more", "rows"])
    return write_rows(tmp_path / "in/a.parquet", [f"text {n}" for n in range(25)])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"
