"""docs/readers.md: which vectors pandas, Polars and DuckDB read; `make test-readers` has others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.readers import outcomes, said_of

from emulator.server import EmulatorServer


@pytest.mark.parametrize(
    ("reader", "module"),
    [("pandas (pyarrow)", "pandas"), ("Polars", "polars"), ("DuckDB", "duckdb")],
)
def test_a_reader_takes_what_the_page_says(
    reader: str, module: str, tmp_path: Path, server: EmulatorServer
) -> None:
    assert outcomes(sys.executable, module, tmp_path, server) == said_of(reader)
