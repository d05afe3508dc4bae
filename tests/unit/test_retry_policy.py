from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from bulkembed.schemas.errors import (
    BadAnswer,
    CallError,
    CallRejected,
    Intercepted,
    JobRejected,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.transforms.clients.retry_policy import REPORT_AFTER, Retries, RetryPolicy

TIMEOUT_S = 60.0


class FakeTime:
    """Time that passes while the policy sleeps, and as long as a call takes."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds

    def policy(self, stopped: Callable[[], bool] = lambda: False) -> RetryPolicy:
        return RetryPolicy(TIMEOUT_S, stopped, self.sleep, lambda: self.now_s)


def failing(error: CallError, times: float = float("inf")) -> Callable[[], str]:
    """A call that fails some times, and then answers."""
    count = 0

    def call() -> str:
        nonlocal count
        count += 1
        if count <= times:
            raise error
        return "answer"

    return call


@pytest.mark.parametrize("kind", [Unavailable, Intercepted, BadAnswer, QuotaExceeded])
def test_a_failure_that_may_pass_is_retried(kind: type[CallError]) -> None:
    time = FakeTime()
    assert time.policy().run(failing(kind("m"), times=4)) == "answer"
    assert len(time.waits) == 4
    assert time.waits == sorted(time.waits)


@pytest.mark.parametrize("error", [JobRejected("m"), CallRejected("m"), KeyError("m")])
def test_a_failure_that_stays_is_raised_at_once(error: CallError) -> None:
    time = FakeTime()
    with pytest.raises(type(error)):
        time.policy().run(failing(error))
    assert not time.waits


def test_an_error_that_may_not_be_retried_here_is_raised_at_once() -> None:
    time = FakeTime()
    with pytest.raises(QuotaExceeded):
        time.policy().run(failing(QuotaExceeded("m")), (Unavailable,))
    assert not time.waits


def test_the_last_failure_is_raised_when_the_time_is_over() -> None:
    time = FakeTime()
    error = Unavailable("m")
    with pytest.raises(Unavailable) as caught:
        time.policy().run(failing(error))
    assert caught.value is error
    assert sum(time.waits) == pytest.approx(TIMEOUT_S)


def test_nothing_is_retried_once_the_run_must_end() -> None:
    time = FakeTime()
    with pytest.raises(Unavailable):
        time.policy(lambda: len(time.waits) == 2).run(failing(Unavailable("m")))
    assert len(time.waits) == 2


def test_the_delay_that_the_service_asks_for_is_kept_up_to_the_end() -> None:
    time = FakeTime()
    with pytest.raises(Unavailable):
        time.policy().run(failing(Unavailable("m", retry_delay_s=40.0)))
    assert len(time.waits) == 2
    assert time.waits[0] >= 40
    assert sum(time.waits) == pytest.approx(TIMEOUT_S)


def attempts_until_the_end(positions: list[int]) -> int:
    """How many attempts a transfer has that gets to one position in each, and then fails."""
    time = FakeTime()
    retries = Retries(time.policy())
    count = 0

    def call() -> str:
        nonlocal count
        if count == len(positions):
            return "answer"
        time.now_s += 10
        retries.reached(positions[count])
        count += 1
        raise Unavailable("m")

    try:
        retries.run(call)
    except Unavailable:
        return count
    return -1


def test_a_transfer_that_makes_progress_goes_on() -> None:
    assert attempts_until_the_end(list(range(1, 100))) == -1


def test_a_transfer_that_only_gets_where_it_was_ends() -> None:
    assert attempts_until_the_end([5, 3, 4] * 100) < 10


def test_a_call_that_keeps_failing_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "bulkembed")
    FakeTime().policy().run(failing(Unavailable("the service is down."), times=REPORT_AFTER - 1))
    assert not caplog.messages
    FakeTime().policy().run(failing(Unavailable("the service is down."), times=5))
    assert caplog.messages == ["the service is down. bulkembed retries for up to 60 s."]
