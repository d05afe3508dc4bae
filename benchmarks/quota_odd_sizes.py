"""Scenarios of the quota benchmark whose units do not fill requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.processes import Job, emulator
from benchmarks.quota_scenarios import LATENCY, Row, Setting
from benchmarks.quota_windows import windows_of

ODD_UNITS = (2258, 2220, 2291, 2198)
"""Texts of units of 2,500 rows; the other rows are blank. After full requests of 100 texts, 58,
20, 91 and 98 are left."""
SMALL_FILES, SMALL_FILE_ROWS = 2000, 5


def odd_units(setting: Setting) -> list[Row]:
    """Units with blank rows, so that their texts are no multiple of a full request."""
    source = setting.folder / "odd-units.parquet"
    texts = setting.texts.some(sum(ODD_UNITS))
    rows: list[str | None] = []
    for count in ODD_UNITS:
        unit, texts = texts[:count], texts[count:]
        rows += [*unit, *[None] * (2500 - count)]
    _write(source, rows)
    return [_run(setting, "odd-units", "units of odd sizes", source, 3000, 100)]


def small_files(setting: Setting) -> list[Row]:
    """Files of five rows each."""
    folder = setting.folder / "small-files"
    folder.mkdir()
    texts = setting.texts.some(SMALL_FILES * SMALL_FILE_ROWS)
    for number in range(SMALL_FILES):
        first = SMALL_FILE_ROWS * number
        _write(folder / f"{number:04}.parquet", texts[first : first + SMALL_FILE_ROWS], first)
    return [_run(setting, "small-files-out", "2,000 files of 5 rows", folder, 3000, 150)]


def _run(setting: Setting, name: str, what: str, source: Path, rpm: int, requests: int) -> Row:
    with emulator("--rpm", rpm, *LATENCY) as server:
        code = Job(server.url, source, setting.folder / name, "--rpm", rpm).wait().code
        stats, windows = server.stats(), windows_of(server, rpm)
    target = f"{windows.target}, no 429, at most {requests} requests"
    passed = windows.is_reached and stats["answers_429"] == code == 0
    passed = passed and stats["calls"] <= requests
    result = f"{windows}; {stats['calls']:,} requests"
    return Row(f"1 {what}", target, result, str(stats["answers_429"]), passed)


def _write(path: Path, rows: Sequence[str | None], first: int = 0) -> None:
    table = {"id": range(first, first + len(rows)), "text": pa.array(rows, pa.string())}
    pq.write_table(pa.table(table), path)
