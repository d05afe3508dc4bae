"""The arithmetic of snapshots, and how they are displayed."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.pipeline.logs import JsonLines, set_log
from bulkembed.pipeline.progress.progress import Progress, interval_s, progress_facts, progress_line
from bulkembed.pipeline.progress.snapshot import Goal, Rates, Snapshot, take_snapshot
from bulkembed.pipeline.run.summary import RowCounts
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.live import Live, LiveCounts, LiveJobs, QuotaUse, Waiting
from bulkembed.schemas.prices import Price
from bulkembed.schemas.quota import QuotaKind
from bulkembed.schemas.serialization import from_plain, to_plain

NO_LIMITS = QuotaUse.of(rpm=(0, None), tpm=(0, None), rpd=(0, None))


def goal(left: int = 1000, **more: Any) -> Goal:
    rows = RowCounts(left + 100, embedded=90, dead=4, skipped=6, left=left)
    return Goal(rows=rows, price=Price(0.15, 0.075), **more)


def snapshot(live: Live | None = None, elapsed_s: float = 10.0, **more: Any) -> Snapshot:
    return take_snapshot(goal(**more), live or Live(), elapsed_s, Rates())


def counts(**numbers: Any) -> Live:
    return Live(counts=LiveCounts(**numbers), in_flight=3, quota=NO_LIMITS)


small = st.integers(0, 50)


@given(embedded=small, dead=small, skipped=small, ready=small)
def test_every_row_is_in_one_place(embedded: int, dead: int, skipped: int, ready: int) -> None:
    found = snapshot(counts(embedded=embedded, dead=dead, skipped=skipped, ready=ready))
    rows = found.rows
    assert rows.embedded + rows.dead + rows.skipped + found.ready + rows.left == rows.rows_in
    assert found.done == 100 + embedded + dead + skipped + ready


def test_tokens_and_cost_are_extrapolated_from_the_rows_that_are_done() -> None:
    found = snapshot(counts(embedded=200, ready=50, texts=200, tokens=20_000))
    assert (found.tokens, found.tokens_total) == (20_000, 80_000)
    assert found.usd == pytest.approx(0.003)
    assert found.usd_total == pytest.approx(0.012)


def test_texts_that_were_sent_up_front_are_not_expected_again() -> None:
    found = snapshot(counts(embedded=250, shared=100, texts=200, tokens=20_000), shared=100)
    assert found.tokens_total == 20_000 + 750 * 100 // 250 * 100


def test_nothing_is_extrapolated_before_the_first_row() -> None:
    found = snapshot(counts(shared=100, texts=100, tokens=900))
    assert (found.tokens_total, found.usd_total, found.left_s) == (None, None, None)


def test_the_time_left_is_unknown_while_nothing_shows_the_speed() -> None:
    assert snapshot(counts(embedded=1, texts=1, tokens=1), elapsed_s=0.1).left_s is None


@pytest.mark.parametrize(
    ("quota", "left_s"),
    [
        pytest.param(NO_LIMITS, 40.0, id="by-the-speed"),
        pytest.param(
            QuotaUse.of(rpm=(200, 3000), tpm=(0, None), rpd=(0, None)), 40.0, id="there-is-room"
        ),
        # 100 now, 300 in a minute, 300 in two minutes and the last 100 in three.
        pytest.param(
            QuotaUse.of(rpm=(200, 300), tpm=(0, None), rpd=(0, None)),
            3 * 60.25 + 5,
            id="by-the-texts",
        ),
    ],
)
def test_the_time_left_follows_the_slower_one_of_speed_and_quota(
    quota: QuotaUse, left_s: float
) -> None:
    live = Live(counts=LiveCounts(embedded=200, texts=200, tokens=20_000), quota=quota)
    assert snapshot(live).left_s == pytest.approx(left_s)


JOBS = LiveJobs(
    open=2, texts=400, tokens=9_000, tokens_limit=90_000, oldest_s=7_200.04, look_s=12.0, ended=1,
    paid_tokens=4_000,
)  # fmt: skip


def test_answers_of_batch_jobs_cost_their_own_price() -> None:
    live = dataclasses.replace(counts(embedded=200, texts=100, tokens=1_000), jobs=JOBS)
    found = snapshot(live)
    assert found.tokens == 5_000
    assert found.usd == pytest.approx((1_000 * 0.15 + 4_000 * 0.075) / 1e6)
    assert found.done == 300


def test_nothing_is_extrapolated_from_rows_that_wait_for_batch_jobs() -> None:
    found = snapshot(dataclasses.replace(counts(embedded=200), jobs=JOBS))
    assert (found.tokens_total, found.usd_total, found.left_s) == (None, None, None)


def test_a_run_that_sends_nothing_waits_for_batch_jobs() -> None:
    found = snapshot(Live(jobs=JOBS))
    assert (found.waiting, found.wait_s) == (Waiting.BATCH, 12.0)
    busy = snapshot(Live(jobs=dataclasses.replace(JOBS, look_s=None)))
    assert (busy.waiting, busy.wait_s) == (None, None)
    sending = snapshot(Live(jobs=JOBS, waiting=Waiting.RPM, wait_s=3.0))
    assert (sending.waiting, sending.wait_s) == (Waiting.RPM, 3.0)


def test_facts_have_the_batch_jobs() -> None:
    facts = progress_facts(snapshot(Live(jobs=JOBS)))
    assert {name: value for name, value in facts.items() if name.startswith("batch_")} == {
        "batch_open": 2, "batch_texts": 400, "batch_tokens": 9_000, "batch_tokens_limit": 90_000,
        "batch_oldest_s": 7_200.0, "batch_ended": 1,
    }  # fmt: skip


def test_waiting_for_quota_does_not_make_a_run_seem_slower() -> None:
    rates = Rates()
    for second in range(41):
        done = min(200, 50 * second)
        rates.add(float(second), done, done, 0, throttled_s=max(0.0, second - 4.0))
    assert rates.rows_per_s == pytest.approx(5.0)
    assert rates.active.rows == pytest.approx(50.0)


def test_no_time_is_left_if_no_row_remains() -> None:
    assert snapshot(counts(embedded=1000)).left_s == 0.0


def test_the_speed_is_that_of_the_last_minute() -> None:
    rates = Rates()
    for second in range(200):
        rates.add(float(second), 10 * second if second < 100 else 1000, 5 * second)
    assert rates.rows_per_s == 0.0
    assert rates.texts_per_s == pytest.approx(5.0)


def test_the_time_before_the_first_response_does_not_count() -> None:
    rates = Rates()
    for second, rows in [(1, 0), (2, 0), (9, 0), (10, 500)]:
        rates.add(float(second), rows, rows)
    assert rates.rows_per_s == pytest.approx(500.0)


def test_a_progress_line_has_names_and_numbers() -> None:
    live = dataclasses.replace(
        counts(embedded=200, texts=200, tokens=20_000, rate_limited=2, codes=(("too_long", 3),)),
        waiting=Waiting.RPM,
        quota=QuotaUse.of(rpm=(300, 300), tpm=(20_000, None), rpd=(0, None)),
    )
    first, *words = progress_line(snapshot(live)).split(" ")
    assert first == "progress"
    found = dict(word.split("=") for word in words)
    wanted = {
        "done": "300", "rows": "1100", "left": "800", "in_air": "3", "rows_per_s": "20",
        "rpm_used": "300", "rpm_limit": "300", "tpm_used": "20000", "tokens_all": "100000",
        "usd": "0.003", "waiting": "rpm", "refused": "2", "dead_too_long": "3",
    }  # fmt: skip
    assert {name: found.get(name) for name in wanted} == wanted
    assert "tpm_limit" not in found, "no limit is set"


def test_facts_have_the_same_names_whether_values_are_known_or_not() -> None:
    nothing, much = snapshot(Live()), snapshot(counts(embedded=1, texts=1, tokens=1))
    names = progress_facts(nothing).keys()
    assert names == progress_facts(much).keys() == progress_facts(snapshot(Live(jobs=JOBS))).keys()
    json.dumps(progress_facts(nothing))


lives = st.builds(
    Live,
    counts=st.builds(
        LiveCounts,
        embedded=small,
        tokens=small,
        codes=st.dictionaries(st.sampled_from(["refused", "too_long"]), small).map(
            lambda codes: tuple(sorted(codes.items()))
        ),
    ),
    in_flight=st.none() | small,
    waiting=st.none() | st.sampled_from(Waiting),
    wait_s=st.none() | st.floats(0, 100),
    quota=st.none()
    | st.builds(
        QuotaUse,
        used=st.fixed_dictionaries(dict.fromkeys(QuotaKind, small)),
        limits=st.fixed_dictionaries(dict.fromkeys(QuotaKind, st.none() | small)),
        leaving=st.lists(st.tuples(st.floats(0, 60), small, small)).map(tuple),
        is_smooth=st.booleans(),
    ),
    jobs=st.none() | st.just(JOBS),
)


@given(lives)
def test_counts_survive_the_file_of_another_process(live: Live) -> None:
    assert from_plain(orjson.loads(orjson.dumps(to_plain(live))), Live) == live


@given(lives, lives)
def test_counts_of_processes_add_up(one: Live, two: Live) -> None:
    both = one + two
    assert both.counts.embedded == one.counts.embedded + two.counts.embedded
    assert sum(dict(both.counts.codes).values()) == sum(
        rows for live in (one, two) for _, rows in live.counts.codes
    )
    assert (both.in_flight or 0) == (one.in_flight or 0) + (two.in_flight or 0)
    assert (both.waiting is None) is (one.waiting is two.waiting is None)


class OneRow:
    def read(self) -> Live:
        return counts(embedded=1)

    def close(self) -> None:
        pass


class Shown:
    """A display that keeps what is shown, and fails if asked to."""

    every_s = 1.0

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.seen: list[Snapshot] = []
        self.closed = 0

    def show(self, snapshot: Snapshot) -> None:
        if self.fails:
            raise OSError("terminal closed")
        self.seen.append(snapshot)

    def poll(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


def tick_at(display: Shown, *times: float) -> None:
    now = iter([0.0, *times])
    with Progress(goal(), OneRow(), display, clock=lambda: next(now)) as progress:
        for _ in times:
            progress.tick()


def test_a_snapshot_is_taken_at_each_interval() -> None:
    display = Shown()
    tick_at(display, 0.1, 0.9, 1.0, 1.5, 2.1)
    assert [round(one.elapsed_s, 1) for one in display.seen] == [1.0, 2.1]
    assert display.closed


def test_a_display_that_fails_is_closed_and_the_run_continues() -> None:
    display = Shown(fails=True)
    with contextlib.redirect_stderr(io.StringIO()) as log:
        set_log()
        tick_at(display, 1.0, 2.0, 3.0)
    assert display.closed
    assert log.getvalue() == (
        "bulkembed: progress display failed: OSError('terminal closed'). "
        "The run continues without it.\n"
    )


class Interrupted(Shown):
    """A display whose drawings are interrupted by a signal that closes it."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = Progress(goal(), OneRow(), self, clock=iter([0.0, 1.0]).__next__)
        self.events: list[str] = []

    def show(self, snapshot: Snapshot) -> None:
        self.events.append("drawing")
        self.progress.when_drawn(self.progress.close)
        self.events.append("drawn")

    def close(self) -> None:
        self.events.append("closing")
        self.progress.when_drawn(lambda: self.events.append("exit"))
        self.events.append("closed")


def test_a_signal_during_a_drawing_waits_for_its_end() -> None:
    display = Interrupted()
    display.progress.tick()
    assert display.events == ["drawing", "drawn", "closing", "closed", "exit"]
    display.progress.when_drawn(lambda: display.events.append("at once"))
    assert display.events[-1] == "at once"


@pytest.mark.parametrize("value", ["0", "-1", "often", "nan"])
def test_an_invalid_interval_is_rejected(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BULKEMBED_PROGRESS_S", value)
    with pytest.raises(ConfigError, match="BULKEMBED_PROGRESS_S"):
        interval_s(30.0)


def test_a_json_log_line_has_the_facts_of_its_event() -> None:
    record = logging.LogRecord("bulkembed", logging.WARNING, "x", 1, "a %s", ("word",), None)
    plain = json.loads(JsonLines().format(record))
    assert (plain["level"], plain["event"], plain["message"]) == ("warning", "log", "a word")
    record.event = ("progress", {QuotaKind.RPM: 3})
    event = json.loads(JsonLines().format(record))
    assert (event["event"], event["progress"]) == ("progress", {"rpm": 3})
