"""An input whose first units are early ones, although it is small."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.run import early_units
from support.cli import Ended, run, write_rows

EARLY_ROWS = 50
"""The rows of the early units, of 10 rows each."""
OWN = [f"early {n % 30}" for n in range(40)]
"""Some repeat."""
BOTH = [f"both {n}" for n in range(10)]
LATER = [f"later {n % 90}" for n in range(150)]
TEXTS = [*OWN, *BOTH, *LATER, *(f"early {n}" for n in range(20)), *BOTH, *BOTH]
EARLY_TEXTS = len({*OWN, *BOTH})
ALL_TEXTS = len(set(TEXTS))


def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans of more than 60 rows have early units."""
    monkeypatch.setattr(early_units, "MIN_ROWS", 60)
    monkeypatch.setattr(early_units, "LEAST_ROWS", EARLY_ROWS)


def write_input(folder: Path, texts: list[str] | None = None) -> Path:
    """Two files; gives their folder."""
    texts = TEXTS if texts is None else texts
    ids = [f"row {n}" for n in range(len(texts))]
    write_rows(folder / "a.parquet", texts[:100], id=ids[:100])
    write_rows(folder / "b.parquet", texts[100:], id=ids[100:])
    return folder


def go(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    """A run in units of 10 rows."""
    return run(server.url, source, output, "--dim", 128, "--unit-rows", 10, *args)
