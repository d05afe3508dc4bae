"""Run the quota scenarios, several at a time, and print one table.

    python -m benchmarks.quota [--small] [--only rpm,outage] [--keep FOLDER]

Exits with 1 if a scenario missed its target.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import sys
import tempfile
import time
import traceback
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.quota_odd_sizes import odd_units, small_files
from benchmarks.quota_scenarios import SCENARIOS, Row, Setting
from benchmarks.texts import Texts

OF_ODD_SIZES = ((odd_units, 170), (small_files, 240))
"""Each with its start in seconds."""


def run(folder: Path, *, small: bool, only: frozenset[str]) -> list[Row]:
    """Run all scenarios, or some by name, and return their rows in order."""
    setting = Setting(Texts(folder), folder, small)
    chosen = [one for one in (*SCENARIOS, *OF_ODD_SIZES) if not only or one[0].__name__ in only]
    started, first = time.monotonic(), min(start_s for _, start_s in chosen)

    def play(number: int) -> list[Row]:
        scenario, start_s = chosen[number]
        time.sleep(max(0.0, started + start_s - first - time.monotonic()))
        try:
            found = scenario(setting)
        except Exception as error:
            traceback.print_exc()
            found = [Row(scenario.__name__, "", f"{type(error).__name__}: {error}", "", False)]
        for row in found:
            print(f"{time.monotonic() - started:6.0f} s  {row}", file=sys.stderr, flush=True)
        return found

    with concurrent.futures.ThreadPoolExecutor(len(chosen)) as pool:
        rows = [row for found in pool.map(play, range(len(chosen))) for row in found]
    return sorted(rows, key=lambda row: row.scenario)


def show(rows: list[Row]) -> None:
    """Print the table."""
    table = Table("scenario", "target", "result", "429s", "verdict")
    verdicts = {True: "reached", False: "MISSED", None: ""}
    for row in rows:
        table.add_row(row.scenario, row.target, row.result, row.answers_429, verdicts[row.passed])
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="fewer windows, about seven minutes")
    parser.add_argument("--only", default="", help="names of scenarios, separated by commas")
    parser.add_argument("--keep", type=Path, help="a folder for the written files, which are kept")
    args = parser.parse_args()
    only = frozenset(filter(None, args.only.split(",")))
    with tempfile.TemporaryDirectory(prefix="bench-quota-") as temp:
        folder = args.keep or Path(temp)
        folder.mkdir(parents=True, exist_ok=True)
        rows = run(folder, small=args.small, only=only)
    show(rows)
    sys.exit(any(row.passed is False for row in rows))


if __name__ == "__main__":
    main()
