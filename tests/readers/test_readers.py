"""docs/readers.md, for readers that `make test` does not install."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from support.pages import ELSEWHERE, of_language, run_snippets
from support.readers import (
    PAGE,
    cells_of,
    cells_of_folders,
    folders_made_of,
    folders_of_vectors,
    outcomes,
    outcomes_of_folders,
)

from bulkembed.emulator.server import EmulatorServer

pytestmark = pytest.mark.readers

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17")
each_reader = pytest.mark.parametrize(
    ("reader", "module"),
    [
        pytest.param("Spark", "pyspark", marks=needs_java),
        ("LanceDB", "lancedb"),
        ("Hugging Face datasets", "datasets"),
    ],
)


def version(python: str, module: str, place: Path, env: dict[str, str]) -> str:
    """Return the first two numbers of the installed package's version."""
    code = f"from importlib.metadata import version; print(version({module!r}))"
    found = re.match(r"\d+\.\d+", run_snippets("python", [code], place, env, python))
    assert found is not None
    return found[0]


@each_reader
def test_the_snippet_for_a_reader_runs_with_the_version_of_the_page(
    reader: str, module: str, workplace: Path, elsewhere: dict[str, str], python: str
) -> None:
    run_snippets("bash", of_language(PAGE, "bash"), workplace, elsewhere)
    marked = [code for code in of_language(PAGE, "python") if code.startswith(ELSEWHERE + module)]
    assert len(marked) == 1
    run_snippets("python", marked, workplace, elsewhere, python)
    tested = version(python, module, workplace, elsewhere)
    assert f"| {reader} | {tested} |" in PAGE.read_text()


@each_reader
def test_a_reader_supports_the_types_and_encodings_of_the_page(
    reader: str,
    module: str,
    workplace: Path,
    server: EmulatorServer,
    offline_python: str,
) -> None:
    folders = folders_of_vectors(workplace, server)
    assert outcomes(offline_python, module, folders) == cells_of(reader)


@pytest.mark.parametrize(
    ("reader", "module"),
    [
        pytest.param("Spark", "pyspark", marks=needs_java),
        ("pyarrow, LanceDB", "pyarrow"),
        ("pandas (pyarrow)", "pandas"),
        ("Hugging Face datasets", "datasets"),
    ],
)
def test_a_reader_opens_a_folder_as_the_page_says(
    reader: str,
    module: str,
    workplace: Path,
    server: EmulatorServer,
    offline_python: str,
) -> None:
    folders = folders_made_of(workplace, server)
    assert outcomes_of_folders(offline_python, module, folders) == cells_of_folders(reader)
