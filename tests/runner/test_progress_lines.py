"""The progress lines of a run without a terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.cli import bulkembed, python, run, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

ROWS = 600
SHAPE = ("--dim", "128", "--unit-rows", "200", "--concurrency", "2")


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows with a blank one and one that is rejected; progress is logged often."""
    monkeypatch.setenv("BULKEMBED_PROGRESS_S", "0.1")
    texts = [f"text {n}" for n in range(ROWS)]
    texts[10], texts[20] = "", "poison"
    return write_rows(tmp_path / "a.parquet", texts)


def progress_lines(log: str) -> list[dict[str, str]]:
    """Return the progress lines as names and values."""
    lines = re.findall(r"^bulkembed: progress (.*)$", log, re.MULTILINE)
    return [dict(word.split("=") for word in line.split(" ")) for line in lines]


def test_lines_count_up_to_all_rows(rows: Path, tmp_path: Path) -> None:
    settings = EmulatorSettings(latency_ms=300, poison="poison", script=("503",))
    with EmulatorServer(settings) as server:
        found = run(server.url, rows, tmp_path / "out", *SHAPE, "--rpm", "100000")
        sent = server.stats()["calls"]
    assert found.code == 0, found.err
    lines = progress_lines(found.err)
    done = [int(line["done"]) for line in lines]
    assert done == sorted(done)
    assert done[-1] > 0
    last = lines[-1]
    assert last["rows"] == str(ROWS)
    assert last["retried"] > "0"
    # A line has no quota while no engine runs, as between the last request and the summary.
    assert {line["rpm_limit"] for line in lines if "rpm_limit" in line} == {"100000"}
    assert int(last["calls"]) <= sent
    assert max(int(line["in_air"]) for line in lines) == 2
    assert {line.get("waiting") for line in lines} >= {"probe", "slots"}
    places = ("embedded", "skipped", "dead", "ready", "left")
    assert all(sum(int(line[name]) for name in places) == ROWS for line in lines)


def test_the_log_level_warning_hides_progress(rows: Path, tmp_path: Path) -> None:
    with EmulatorServer(EmulatorSettings(latency_ms=300, poison="poison")) as server:
        found = run(server.url, rows, tmp_path / "out", *SHAPE, "--log-level", "warning")
    assert (found.code, found.err) == (0, "")


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
def test_log_json_writes_an_object_a_line(rows: Path, tmp_path: Path, workers: int) -> None:
    latency_ms = 300 if workers == 1 else 900  # Other processes tell of it once a second.
    settings = EmulatorSettings(latency_ms=latency_ms, poison="poison", script=("503",))
    with EmulatorServer(settings) as server:
        where = ("--input", rows, "--output", tmp_path / "out", "--base-url", server.url)
        words = [str(w) for w in ("run", *where, *SHAPE, "--log-json", "--workers", workers)]
        # Workers write to the standard error of the process.
        found = bulkembed(*words) if workers == 1 else python("-m", "bulkembed", *words)
    assert found.code == 0, found.err
    said = events(found.err)
    assert all(datum["time"].endswith("+00:00") for datum in said)
    assert [one["message"] for one in said if one["level"] == "warning"] == [
        next(one["message"] for one in said if "503" in one["message"])
    ]
    shown = [one["progress"] for one in said if one["event"] == "progress"]
    assert max(one["done"] for one in shown) > 0
    assert max(one["in_air"] for one in shown) == 2
    (summary,) = events(found.out)
    assert summary["event"] == "summary"
    assert summary["summary"]["run"]["embedded"] == ROWS - 2


def test_log_json_writes_errors_as_objects_too(tmp_path: Path) -> None:
    found = run(None, "nowhere/*.parquet", tmp_path / "out", "--log-json")
    assert found.code == 2
    (error,) = events(found.err)
    assert (error["level"], "nowhere" in error["message"]) == ("error", True)
