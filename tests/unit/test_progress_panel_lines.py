"""The panel that a snapshot is rendered to, and where a panel is used."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bulkembed.pipeline.logs import set_log
from bulkembed.pipeline.progress.panel import Screen, bar_widths, render_panel
from bulkembed.pipeline.progress.progress import Lines, make_display
from bulkembed.pipeline.progress.snapshot import Snapshot
from bulkembed.pipeline.run.summary import RowCounts
from bulkembed.schemas.live import LiveJobs, QuotaUse, Waiting

SNAPSHOT = Snapshot(
    elapsed_s=75.2,
    rows=RowCounts(11_459, embedded=7_639, dead=3, skipped=1, left=3_372),
    ready=444,
    shared=119,
    shared_total=119,
    rows_per_s=103.4,
    texts_per_s=98.6,
    in_flight=16,
    quota=QuotaUse.of(rpm=(2_950, 3_000), tpm=(90_000, None), rpd=(7_900, 10_000)),
    texts=7_800,
    tokens=421_550,
    tokens_total=594_783,
    usd=0.06323,
    usd_total=0.08922,
    waiting=Waiting.RPM,
    wait_s=None,
    left_s=66.8,
    sent=98,
    retried=2,
    rate_limited=1,
    codes={"refused": 2, "too_long": 1},
)


JOBS = LiveJobs(
    open=3, texts=250_000, tokens=1_234_567, tokens_limit=4_500_000, oldest_s=7_833.0, look_s=200.0,
    ended=2, paid_tokens=800_000,
)  # fmt: skip
IDLE = dataclasses.replace(JOBS, open=0, texts=0, tokens=0, oldest_s=None, look_s=None)


def drawn(width: int = 80, **changes: Any) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=True)
    console.print(render_panel(dataclasses.replace(SNAPSHOT, **changes)))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, r"done +8,087 of 11,459 rows, 71%"),
        ({}, r" +█+╳▒▓+─+"),
        ({}, r" +█ 7,639 embedded  ╳ 3 failed  ▒ 1 skipped  ▓ 444 uncommitted"),
        ({"ready": 0, "rows": RowCounts(10, left=10)}, r" +─{60,}"),
        ({"ready": 0, "rows": RowCounts(10, embedded=10)}, r" +█ 10 embedded"),
        ({}, r"texts/min .* 2,950 of 3,000"),
        ({}, r"texts/day .* 7,900 of 10,000"),
        ({}, r"speed +103 rows/s, 99 texts/s; 16 requests in flight"),
        ({"in_flight": 1}, r"speed +103 rows/s, 99 texts/s; 1 request in flight"),
        ({"in_flight": None}, r"speed +103 rows/s, 99 texts/s"),
        ({}, r"cost +421,550 of about 594,783 tokens, 0.0632 of 0.0892 USD"),
        ({"usd": None, "usd_total": None}, r"cost +421,550 of about 594,783 tokens"),
        ({"tokens_total": None}, r"cost +421,550 tokens, 0.0632 USD"),
        ({}, r"requests +98 sent, 2 retried, 1 rate-limited \(429\)"),
        ({}, r"failures +2 refused, 1 too_long"),
        ({}, r"waiting for +the per-minute text quota"),
        ({"wait_s": 33.2}, r"waiting for +the per-minute text quota, for another 0:00:34"),
        ({"waiting": None}, r"waiting for +-"),
        ({}, r"elapsed +0:01:15, about 0:01:07 left"),
        ({"left_s": None}, r"elapsed +0:01:15"),
        ({"ending": "SIGINT"}, r"stopping +SIGINT: .*"),
        ({"shared": 20}, r"repeated .* 20 of 119 texts, up front"),
        ({"jobs": JOBS}, r"batch jobs +3 open with 250,000 texts, up to 2:10:33 old; 2 ended"),
        ({"jobs": IDLE}, r"batch jobs +0 open, 2 ended"),
        ({"jobs": JOBS}, r"enqueued +[━╸╺ ]+ 1,234,567 of 4,500,000 tokens"),
        ({"content_noun": "content"}, r"contents/min .* 2,950 of 3,000"),
        ({"content_noun": "content"}, r"speed +103 rows/s, 99 contents/s; .*"),
        ({"content_noun": "content"}, r"waiting for +the per-minute content quota"),
        (
            {"content_noun": "content", "jobs": JOBS},
            r"batch jobs +3 open with 250,000 contents, .*",
        ),
        (
            {"jobs": JOBS, "waiting": Waiting.BATCH, "wait_s": 200.0},
            r"waiting for +the next look at the batch jobs, for another 0:03:20",
        ),
    ],
)
def test_the_panel_has_a_line_for_each_value(changes: dict[str, Any], line: str) -> None:
    assert [one for one in drawn(**changes) if re.fullmatch(line, one)]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "tokens/min"),
        ({}, "repeated"),
        ({}, "stopping"),
        ({"quota": None}, "texts/min"),
        ({"codes": {}}, "failures"),
        ({}, "batch jobs"),
        ({"jobs": dataclasses.replace(JOBS, tokens_limit=None)}, "enqueued"),
        ({"jobs": JOBS, "sent": 0}, "requests"),
    ],
)
def test_values_that_are_not_known_have_no_line(changes: dict[str, Any], name: str) -> None:
    assert not [line for line in drawn(**changes) if line.startswith(name)]


def test_the_bar_needs_neither_unicode_nor_colour() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=out, width=80, color_system=None).print(render_panel(SNAPSHOT))
    out.seek(0)
    _, bar, legend, *_ = out.read().splitlines()
    assert re.fullmatch(r" +#+xs\++-+ *", bar)
    assert "# 7,639 embedded  x 3 failed  s 1 skipped  + 444 uncommitted" in legend


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=6), st.integers(6, 200))
def test_a_bar_is_full_and_shows_every_part_in_proportion(parts: list[int], width: int) -> None:
    widths = bar_widths(parts, width)
    if not any(parts):
        return
    assert sum(widths) == width
    assert [cells > 0 for cells in widths] == [part > 0 for part in parts]
    small = sum(0 < width * part < sum(parts) for part in parts)
    for cells, part in zip(widths, parts, strict=True):
        assert abs(cells - width * part / sum(parts)) <= 1 + small


def test_every_reason_to_wait_has_its_own_text() -> None:
    shown = {line for one in Waiting for line in drawn(waiting=one) if line.startswith("waiting")}
    assert len(shown) == len(Waiting)


@given(width=st.integers(40, 200), many=st.integers(0, 10**9))
def test_each_line_of_the_panel_fits_one_line_of_the_terminal(width: int, many: int) -> None:
    rows = RowCounts(many, embedded=many)
    lines = drawn(
        width, ending=None, rows=rows, tokens=many, tokens_total=many, texts_per_s=float(many),
        jobs=dataclasses.replace(JOBS, texts=many, tokens=many, oldest_s=float(many % 10**7)),
    )  # fmt: skip
    assert len(lines) == len(drawn(jobs=JOBS))
    assert max(map(len, lines)) <= min(width, 80)


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as stream:
        yield stream
    os.close(ours)


@pytest.mark.parametrize(
    ("level", "as_json", "term", "kind"),
    [
        pytest.param("info", False, "xterm", Screen, id="people"),
        pytest.param("info", False, "dumb", Lines, id="a-terminal-without-a-cursor"),
        pytest.param("info", True, "xterm", Lines, id="machines"),
        pytest.param("warning", False, "xterm", Lines, id="warnings-only"),
        pytest.param("debug", False, "xterm", Lines, id="debugging"),
    ],
)
def test_a_panel_is_drawn_on_a_terminal_that_people_watch(
    terminal: TextIO,
    monkeypatch: pytest.MonkeyPatch,
    level: str,
    as_json: bool,
    term: str,
    kind: type,
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    set_log(level, as_json=as_json)
    assert isinstance(make_display(terminal), kind)


def test_a_file_gets_lines_and_no_panel(tmp_path: Path) -> None:
    set_log()
    with (tmp_path / "log").open("w") as stream:
        assert isinstance(make_display(stream), Lines)
