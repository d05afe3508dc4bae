"""docs/readers.md, for pandas, Polars and DuckDB; `make test-readers` tests the other readers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.readers import (
    cells_of,
    cells_of_folders,
    folders_made_of,
    folders_of_vectors,
    outcomes,
    outcomes_of_folders,
)

from bulkembed.emulator.server import EmulatorServer

pytestmark = pytest.mark.usefixtures("all_packages")

MODULES = {"pandas (pyarrow)": "pandas", "Polars": "polars", "DuckDB": "duckdb"}


def test_each_reader_supports_the_types_and_encodings_of_the_page(
    tmp_path: Path, server: EmulatorServer
) -> None:
    folders = folders_of_vectors(tmp_path, server)
    taken = {name: outcomes(sys.executable, module, folders) for name, module in MODULES.items()}
    assert taken == {name: cells_of(name) for name in MODULES}


def test_each_reader_opens_a_folder_as_the_page_says(
    tmp_path: Path, server: EmulatorServer
) -> None:
    folders = folders_made_of(tmp_path, server)
    modules = {**MODULES, "pyarrow, LanceDB": "pyarrow"}
    found = {
        name: outcomes_of_folders(sys.executable, module, folders)
        for name, module in modules.items()
    }
    assert found == {name: cells_of_folders(name) for name in modules}
