from __future__ import annotations

import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import write_rows

from emulator.server import EmulatorServer


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The larger one of two files of a folder."""
    write_rows(tmp_path / "in/b.parquet", ["more", "rows"])
    return write_rows(tmp_path / "in/a.parquet", [f"text {n}" for n in range(25)])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the shards that the README speaks of."""
    shards = tmp_path / "shards/2026"
    shards.mkdir(parents=True)
    columns = ("id", "title", "body", "url", "lang")
    rows = [{name: f"{name} {row}" for name in columns} for row in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), shards / "a.parquet")
    return tmp_path


@pytest.fixture
def at_home(workplace: Path, server: EmulatorServer) -> dict[str, str]:
    """An environment in which Google's API is the emulator and `bulkembed` is on the path."""
    here = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        "GOOGLE_GEMINI_BASE_URL": server.url,
        "GEMINI_API_KEY": "a-key",
        # Google's, which is not known of another address.
        "BULKEMBED_RUN_PRICE_USD_PER_MTOK": "0.15",
        "XDG_CACHE_HOME": str(workplace / "cache"),
        "NO_PROXY": "127.0.0.1",
    }
