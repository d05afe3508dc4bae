from __future__ import annotations

import asyncio
import itertools

import pytest

from bulkembed.schemas.errors import BadAnswer, JobRefused, QuotaExceeded, Unavailable
from bulkembed.schemas.serialization import from_plain
from bulkembed.schemas.stop import ExitCode, Stop, StopReason
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.units.row_texts import _error_of


def test_the_most_serious_reason_holds_whatever_came_first() -> None:
    for first, second in itertools.permutations(StopReason, 2):
        flag = StopFlag()
        flag.set(first, "first")
        flag.set(second, "second")
        serious = min(first, second, key=list(StopReason).index)
        assert flag.stop is not None
        assert flag.stop.reason is serious


def test_the_first_of_two_equal_reasons_holds_and_is_told_once() -> None:
    told: list[Stop] = []
    flag = StopFlag(told.append)
    flag.set(StopReason.UNAVAILABLE, "one")
    flag.set(StopReason.UNAVAILABLE, "two")
    flag.set(StopReason.DEADLINE, "milder")
    flag.set(StopReason.REFUSED, "worse")
    assert [stop.message for stop in told] == ["one", "worse"]


def test_whoever_sleeps_wakes_when_the_flag_is_set_from_another_thread() -> None:
    async def sleeper() -> None:
        flag = StopFlag()
        asyncio.get_running_loop().run_in_executor(None, flag.set, StopReason.SIGNAL, "stop")
        with pytest.raises(Stopping):
            await flag.sleep(60)
        with pytest.raises(Stopping):
            await flag.sleep(60)

    asyncio.run(asyncio.wait_for(sleeper(), 5))


def test_whoever_sleeps_while_the_work_goes_on_sleeps_to_the_end() -> None:
    asyncio.run(StopFlag().sleep(0.001))


def test_a_stop_comes_back_from_its_note() -> None:
    for reason in StopReason:
        stop = Stop(reason, "words", 1.5)
        assert from_plain({"reason": str(reason), "message": "words", "at": 1.5}, Stop) == stop


def test_a_refusal_is_a_failure_and_what_time_heals_is_incomplete() -> None:
    codes = {reason: Stop(reason, "", 0.0).exit_code for reason in StopReason}
    assert codes[StopReason.REFUSED] == codes[StopReason.BROKEN] == ExitCode.FAILED == 1
    assert codes[StopReason.USELESS] == ExitCode.FAILED
    assert codes[StopReason.COST_CAP] == ExitCode.COST_CAP == 4
    for reason in ("day_spent", "unavailable", "signal", "deadline"):
        assert codes[StopReason(reason)] == ExitCode.INCOMPLETE == 75


def test_a_sleep_that_is_over_leaves_nothing_behind() -> None:
    flag = StopFlag()

    async def sleep_often() -> None:
        for _ in range(20):
            await flag.sleep(0)

    asyncio.run(sleep_often())
    assert not flag._waiting


def test_a_stage_of_the_library_raises_what_a_run_would_end_for() -> None:
    kinds = {
        StopReason.REFUSED: JobRefused,
        StopReason.USELESS: BadAnswer,
        StopReason.DAY_SPENT: QuotaExceeded,
        StopReason.UNAVAILABLE: Unavailable,
    }
    for reason, kind in kinds.items():
        assert type(_error_of(Stop(reason, "words", 0.0))) is kind
