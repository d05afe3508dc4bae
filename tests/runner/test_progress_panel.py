"""The panel on a real terminal: what it shows during a run, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli import write_rows
from support.terminal import CTRL_C, Terminal

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

ROWS = 400
MANY = 6000
"""More than a run finishes before the signal."""
SHAPE = ("--dim", "128", "--unit-rows", "100", "--concurrency", "2")
LABELS = ("done  ", "waiting for", "texts/min")
"""Text that only the panel has."""
COLOUR = re.compile(rb"\x1b\[(?:[\d;]*;)?(?:3[0-7]|38|9[0-7])[\d;]*m")

Start = Callable[..., Terminal]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a run of some seconds, whose second request is answered 503."""
    begun: list[Terminal] = []
    settings = EmulatorSettings(latency_ms=800, script=("ok", "503"))
    with EmulatorServer(settings) as server:

        def run(*args: str, rows: int = ROWS, **environ: str) -> Terminal:
            source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(rows)])
            where = ("--input", source, "--output", tmp_path / "out", "--base-url", server.url)
            words = ("run", *where, *SHAPE, "--rpm", "100000", *args)
            begun.append(Terminal(*words, BULKEMBED_PROGRESS_S="0.1", **environ))
            return begun[-1]

        yield run
        for terminal in begun:
            terminal.close()


def shows_work(terminal: Terminal) -> Callable[[], bool]:
    """Whether the whole panel is shown, with a response counted."""

    def is_so() -> bool:
        done = any(re.match(r"done .* [1-9]\d* of", line) for line in terminal.lines)
        return done and all(any(line.startswith(one) for line in terminal.lines) for one in LABELS)

    return is_so


def is_clean(terminal: Terminal) -> bool:
    """Whether nothing of the panel remains."""
    left = [line for line in terminal.lines if line.startswith(LABELS)]
    return terminal.cursor_is_shown and not left


def test_the_panel_disappears_at_the_end_and_the_log_stays(start: Start) -> None:
    terminal = start()
    terminal.read_until(shows_work(terminal))
    assert not terminal.cursor_is_shown
    assert terminal.code() == 0
    assert is_clean(terminal)
    assert COLOUR.search(terminal.data)
    assert terminal.lines[0].startswith("bulkembed: gemini-embedding-001")
    said = "\n".join(terminal.lines)
    assert said.count("503") == 1
    assert f"{ROWS} in: {ROWS} embedded" in said


def ctrl_c(terminal: Terminal) -> None:
    terminal.press(CTRL_C)


def terminate(terminal: Terminal) -> None:
    os.kill(terminal.pid, signal.SIGTERM)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(ctrl_c, id="ctrl-c"),
        pytest.param(terminate, id="sigterm", marks=pytest.mark.faults),
    ],
)
def test_a_signal_leaves_a_clean_screen(start: Start, end: Callable[[Terminal], None]) -> None:
    terminal = start(rows=MANY)
    terminal.read_until(shows_work(terminal))
    end(terminal)
    terminal.read_until(lambda: any(line.startswith("stopping") for line in terminal.lines))
    assert terminal.code() == 75
    assert is_clean(terminal)
    assert "stopped cleanly" in terminal.lines[-1]


def test_the_second_ctrl_c_leaves_a_clean_screen_too(start: Start) -> None:
    terminal = start(rows=MANY)
    terminal.read_until(shows_work(terminal))
    terminal.press(CTRL_C)
    terminal.read_until(lambda: any(line.startswith("stopping") for line in terminal.lines))
    terminal.press(CTRL_C)
    assert terminal.code() == 128 + signal.SIGINT
    assert is_clean(terminal)


def test_no_color_is_obeyed(start: Start) -> None:
    terminal = start(NO_COLOR="1")
    terminal.read_until(shows_work(terminal))
    assert terminal.code() == 0
    assert not COLOUR.search(terminal.data)
