"""docs/readers.md: which vectors pandas, Polars and DuckDB read; `make test-readers` has others."""

from __future__ import annotations

import sys
from pathlib import Path

from support.readers import folders_of_vectors, outcomes, said_of

from emulator.server import EmulatorServer

MODULES = {"pandas (pyarrow)": "pandas", "Polars": "polars", "DuckDB": "duckdb"}


def test_each_reader_takes_what_the_page_says(tmp_path: Path, server: EmulatorServer) -> None:
    folders = folders_of_vectors(tmp_path, server)
    taken = {name: outcomes(sys.executable, module, folders) for name, module in MODULES.items()}
    assert taken == {name: said_of(name) for name in MODULES}
