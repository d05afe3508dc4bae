"""Scenarios of the quota benchmark that compare a run with the ideal for its texts alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.processes import Emulator, Job, emulator
from benchmarks.quota_scenarios import LATENCY, Row, Setting

WINDOW_S = 60
ODD_UNITS = (2258, 2220, 2291, 2198)
"""Texts of units of 2,500 rows; the other rows are blank.  After full requests of 100 texts, 58,
20, 91 and 98 are left."""
SMALL_FILES, SMALL_FILE_ROWS = 1200, 5


@dataclasses.dataclass(frozen=True, slots=True)
class Windows:
    """The texts of a run that RPM limits, and what was possible."""

    limit: int
    texts: int
    used: tuple[int, ...]
    """The texts counted in each minute from the first one on."""
    took_s: float

    @property
    def ideal_s(self) -> int:
        """The time from the first text to the last one, by the number of texts alone."""
        return WINDOW_S * (math.ceil(self.texts / self.limit) - 1)

    @property
    def max_s(self) -> float:
        """The ideal and 2 %."""
        return 1.02 * self.ideal_s

    def __str__(self) -> str:
        possible = [
            min(self.limit, self.texts - self.limit * number) for number in range(len(self.used))
        ]
        pairs = ", ".join(
            f"{used:,} of {max(0, most):,}" for used, most in zip(self.used, possible, strict=True)
        )
        return f"{self.took_s:.1f} s; texts per window: {pairs}"


def windows_of(server: Emulator, limit: int) -> Windows:
    """Return what an emulator with that RPM has counted."""
    stats = server.stats()
    took_s = stats["last_counted_s"] - stats["first_counted_s"]
    minutes = range(math.floor(took_s / WINDOW_S) + 1)
    used = [server.texts_between(WINDOW_S * one, WINDOW_S * (one + 1)) for one in minutes]
    return Windows(limit, stats["texts"], tuple(used), took_s)


def odd_units(setting: Setting) -> list[Row]:
    """Units with blank rows, so that their texts are no multiple of a full request."""
    source = setting.folder / "odd-units.parquet"
    texts = setting.texts.some(sum(ODD_UNITS))
    rows: list[str | None] = []
    for count in ODD_UNITS:
        unit, texts = texts[:count], texts[count:]
        rows += [*unit, *[None] * (2500 - count)]
    _write(source, rows)
    return [_run(setting, "odd-units", "units of odd sizes", source, 3000)]


def small_files(setting: Setting) -> list[Row]:
    """Files of five rows each."""
    folder = setting.folder / "small-files"
    folder.mkdir()
    texts = setting.texts.some(SMALL_FILES * SMALL_FILE_ROWS)
    for number in range(SMALL_FILES):
        first = SMALL_FILE_ROWS * number
        _write(folder / f"{number:04d}.parquet", texts[first : first + SMALL_FILE_ROWS], first)
    return [_run(setting, "small-files-out", "files of five rows", folder, 3000)]


def _run(setting: Setting, name: str, what: str, source: Path, rpm: int) -> Row:
    with emulator("--rpm", rpm, *LATENCY) as server:
        code = Job(server.url, source, setting.folder / name, "--rpm", rpm).wait().code
        stats, windows = server.stats(), windows_of(server, rpm)
    target = f"{windows.texts:,} texts in {windows.max_s:.1f} s (ideal {windows.ideal_s} s), no 429"
    passed = windows.took_s <= windows.max_s and stats["answers_429"] == code == 0
    result = f"{windows}; {stats['calls']:,} requests"
    return Row(f"1 {what}", target, result, str(stats["answers_429"]), passed)


def _write(path: Path, rows: Sequence[str | None], first: int = 0) -> None:
    table = {"id": range(first, first + len(rows)), "text": pa.array(rows, pa.string())}
    pq.write_table(pa.table(table), path)
