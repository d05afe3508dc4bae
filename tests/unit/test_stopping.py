from __future__ import annotations

import asyncio
import itertools

import pytest
from support import jumping_loop

from bulkembed.schemas.errors import BadAnswer, JobRejected, QuotaExceeded, Unavailable
from bulkembed.schemas.serialization import from_plain
from bulkembed.schemas.stop import ExitCode, Stop, StopReason
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.units.row_texts import _error_of


def test_the_most_serious_reason_counts_whatever_the_order() -> None:
    for first, second in itertools.permutations(StopReason, 2):
        flag = StopFlag()
        flag.set(first, "first")
        flag.set(second, "second")
        serious = min(first, second, key=list(StopReason).index)
        assert flag.stop is not None
        assert flag.stop.reason is serious


def test_the_first_of_two_equal_reasons_counts_and_is_reported_once() -> None:
    reported: list[Stop] = []
    flag = StopFlag(reported.append)
    flag.set(StopReason.UNAVAILABLE, "one")
    flag.set(StopReason.UNAVAILABLE, "two")
    flag.set(StopReason.DEADLINE, "less serious")
    flag.set(StopReason.REJECTED, "more serious")
    assert [stop.message for stop in reported] == ["one", "more serious"]


def test_a_sleep_ends_when_another_thread_sets_the_flag() -> None:
    async def sleeper() -> None:
        flag = StopFlag()
        asyncio.get_running_loop().run_in_executor(None, flag.set, StopReason.SIGNAL, "stop")
        with pytest.raises(Stopping):
            await flag.sleep(60)
        with pytest.raises(Stopping):
            await flag.sleep(60)

    asyncio.run(asyncio.wait_for(sleeper(), 5))


def test_without_a_stop_a_sleep_lasts_its_full_time() -> None:
    loop = jumping_loop.JumpingLoop()
    started = loop.time()
    jumping_loop.run(StopFlag().sleep(60), loop)
    assert loop.time() - started == pytest.approx(60)


def test_a_stop_is_read_from_its_note() -> None:
    for reason in StopReason:
        stop = Stop(reason, "words", 1.5)
        assert from_plain({"reason": str(reason), "message": "words", "at": 1.5}, Stop) == stop


def test_reasons_that_end_by_themselves_have_the_exit_code_for_incomplete() -> None:
    codes = {reason: Stop(reason, "", 0.0).exit_code for reason in StopReason}
    assert codes[StopReason.REJECTED] == codes[StopReason.BROKEN] == ExitCode.FAILED == 1
    assert codes[StopReason.USELESS] == ExitCode.FAILED
    assert codes[StopReason.COST_CAP] == ExitCode.COST_CAP == 4
    for reason in ("day_spent", "unavailable", "signal", "deadline"):
        assert codes[StopReason(reason)] == ExitCode.INCOMPLETE == 75


def test_a_finished_sleep_is_no_longer_registered() -> None:
    flag = StopFlag()

    async def sleep_often() -> None:
        for _ in range(20):
            await flag.sleep(0)

    asyncio.run(sleep_often())
    assert not flag._waiting


def test_a_stage_raises_an_error_for_the_reason_of_a_stop() -> None:
    kinds = {
        StopReason.REJECTED: JobRejected,
        StopReason.USELESS: BadAnswer,
        StopReason.DAY_SPENT: QuotaExceeded,
        StopReason.UNAVAILABLE: Unavailable,
    }
    for reason, kind in kinds.items():
        assert type(_error_of(Stop(reason, "words", 0.0))) is kind
