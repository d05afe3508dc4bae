"""pyarrow imports pandas in the main thread: two threads at once get one that is not ready."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import python, write_rows

from bulkembed.emulator.server import EmulatorServer

pytestmark = pytest.mark.faults

NOTING = """
import os, pathlib, threading
with (pathlib.Path(__file__).parent / f"{os.getpid()}.threads").open("a") as file:
    file.write(threading.current_thread().name + "\\n")
raise ImportError("pandas is not installed")
"""


@pytest.fixture
def imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that gets a file for each process, with the threads that imported pandas."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "pandas.py").write_text(NOTING)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def test_commands_with_threads_import_pandas_in_the_main_thread(
    server: EmulatorServer, tmp_path: Path, imports: Path
) -> None:
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(30)])
    out, key = tmp_path / "out", tmp_path / "key"
    key.write_text("any")
    key.chmod(0o600)
    service = ("--base-url", server.url, "--api-key-file", str(key))
    night = ("run", "--input", str(source), "--output", str(out), *service, "--sync")
    for command in (night, night, ("verify", str(out), "--against", str(source))):
        ended = python("-m", "bulkembed", *command)
        assert ended.code == 0, ended.err
    first = [one.read_text().split()[0] for one in imports.glob("*.threads")]
    assert len(first) >= 3
    assert set(first) == {"MainThread"}
