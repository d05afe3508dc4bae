"""docs/readers.md: which vectors pandas, Polars and DuckDB read; `make test-readers` has others."""

from __future__ import annotations

import sys
from pathlib import Path

from support.readers import (
    folders_made_of,
    folders_of_vectors,
    outcomes,
    outcomes_of_folders,
    said_of,
    said_of_folders,
)

from bulkembed.emulator.server import EmulatorServer

MODULES = {"pandas (pyarrow)": "pandas", "Polars": "polars", "DuckDB": "duckdb"}


def test_each_reader_takes_what_the_page_says(tmp_path: Path, server: EmulatorServer) -> None:
    folders = folders_of_vectors(tmp_path, server)
    taken = {name: outcomes(sys.executable, module, folders) for name, module in MODULES.items()}
    assert taken == {name: said_of(name) for name in MODULES}


def test_each_reader_makes_of_a_folder_what_the_page_says(
    tmp_path: Path, server: EmulatorServer
) -> None:
    folders = folders_made_of(tmp_path, server)
    modules = {**MODULES, "pyarrow, LanceDB": "pyarrow"}
    found = {
        name: outcomes_of_folders(sys.executable, module, folders)
        for name, module in modules.items()
    }
    assert found == {name: said_of_folders(name) for name in modules}
