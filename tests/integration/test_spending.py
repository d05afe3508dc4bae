"""How a process asks the account of its dataset for a call."""

from __future__ import annotations

import asyncio
import itertools
import logging
from pathlib import Path

import pytest
from support.jobs import a_job, prepared

from bulkembed.pipeline.run.cost_cap import begin, forget
from bulkembed.schemas.errors import CallError, JobRefused, OutputError, Unavailable
from bulkembed.schemas.prices import Budget
from bulkembed.schemas.stop import ExitCode, StopReason
from bulkembed.transforms.calls.spending import Spending
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.core.account import Leave, most_cost
from bulkembed.transforms.dataset.account_file import AccountFile
from bulkembed.transforms.dataset.dataset import ACCOUNT, Dataset, State

ITEMS = prepared(["one text", "and another"], a_job()).items
COST = most_cost(ITEMS)
ROOM_FOR_ONE = Budget(COST * 1.5, 1_000_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "account.json"


async def hold(spending: Spending) -> int:
    """What a call does that waits neither for quota nor for anybody in between."""
    await spending.room(ITEMS)
    held = spending.hold(ITEMS)
    assert held is not None
    return held


def test_a_call_waits_for_another_process_and_takes_what_that_gives_back(path: Path) -> None:
    one, two = (Spending(str(path), ROOM_FOR_ONE, StopFlag()) for _ in range(2))

    async def both() -> int:
        held = await hold(one)
        waiting = asyncio.create_task(hold(two))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        one.settle(held, COST // 4)
        return await waiting

    assert asyncio.run(both()) == COST


def test_a_call_of_a_run_before_fresh_leaves_no_room_in_the_new_account(tmp_path: Path) -> None:
    dataset = Dataset.open(str(tmp_path))
    path = tmp_path / ACCOUNT
    path.parent.mkdir()

    def run(number: int) -> Spending:
        job = a_job(account=str(path), budget=ROOM_FOR_ONE, run_number=number)
        begin(job, dataset, State())
        return Spending(str(path), ROOM_FOR_ONE, StopFlag())

    old = run(1)
    held = asyncio.run(hold(old))
    forget(a_job(account=str(path)))
    new = run(2)
    old.settle(held, COST // 4)
    asyncio.run(hold(new))
    assert new.hold(ITEMS) is None, "one call fits, and two may cost more than the budget"


def test_it_does_not_wait_for_a_process_that_was_lost(path: Path) -> None:
    with AccountFile(path).account() as account:
        account.hold(COST, None)
    stop, seconds = StopFlag(), itertools.count(step=30)
    spending = Spending(str(path), ROOM_FOR_ONE, stop, call_s=60, clock=lambda: next(seconds))
    with pytest.raises(Stopping):
        asyncio.run(hold(spending))
    assert stop.stop is not None
    assert (stop.stop.reason, stop.stop.exit_code) == (StopReason.COST_CAP, ExitCode.COST_CAP)


@pytest.mark.parametrize(
    ("error", "paid"),
    [
        pytest.param(Unavailable("reset"), COST, id="nobody-knows"),
        pytest.param(Unavailable("503", http_status=503), 0, id="not-answered"),
        pytest.param(JobRefused("key", http_status=403), 0, id="refused"),
    ],
)
def test_what_a_failed_call_may_have_cost_is_spent(path: Path, error: CallError, paid: int) -> None:
    spending = Spending(str(path), ROOM_FOR_ONE, StopFlag())
    spending.failed(asyncio.run(hold(spending)), error)
    with AccountFile(path).account() as account:
        assert (account.paid, account.held) == (paid, 0)


def test_without_a_budget_an_account_that_cannot_be_kept_is_told_once_and_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spending = Spending(str(tmp_path / "none/account.json"), None, StopFlag())
    with caplog.at_level(logging.WARNING, "bulkembed"):
        for _ in range(3):
            spending.settle(asyncio.run(hold(spending)), COST)
    assert [record.message.count("cannot be written") for record in caplog.records] == [1]


def test_with_a_budget_it_ends_the_run(tmp_path: Path) -> None:
    spending = Spending(str(tmp_path / "none/account.json"), ROOM_FOR_ONE, StopFlag())
    with pytest.raises(OutputError, match="cannot be written"):
        asyncio.run(hold(spending))


def test_a_call_whose_room_was_taken_meanwhile_is_told_to_wait_again(path: Path) -> None:
    one, two = (Spending(str(path), ROOM_FOR_ONE, StopFlag()) for _ in range(2))
    asyncio.run(two.room(ITEMS))
    held = asyncio.run(hold(one))
    assert two.hold(ITEMS) is None
    one.settle(held, 0)
    assert two.hold(ITEMS) == COST


def test_who_waits_longer_than_a_call_takes_goes_on_waiting_while_others_pay(path: Path) -> None:
    """Many calls wait in line, and each generation of calls in flight takes its time."""
    now = [0.0]
    stop = StopFlag()
    one, two = (
        Spending(str(path), ROOM_FOR_ONE, stop, call_s=60, clock=lambda: now[0]) for _ in range(2)
    )

    async def generations() -> bool:
        held = await hold(one)
        waiting = asyncio.create_task(two.room(ITEMS))
        for _ in range(10):
            await asyncio.sleep(0.06)
            now[0] += 50
            with AccountFile(path).account() as account:  # An outage: held again, nothing paid.
                account.settle(held, 0, account.run)
                assert account.hold(held, None) is Leave.GO
            await asyncio.sleep(0.06)
            assert not waiting.done()
        one.settle(held, 0)
        await waiting
        return stop.is_set()

    assert asyncio.run(generations()) is False


def test_only_the_first_in_line_looks_at_the_account(path: Path) -> None:
    stop, looks = StopFlag(), itertools.count()
    spending = Spending(str(path), ROOM_FOR_ONE, stop, call_s=1e9, clock=lambda: float(next(looks)))

    async def crowd() -> int:
        held = await hold(spending)
        waiting = [asyncio.create_task(spending.room(ITEMS)) for _ in range(200)]
        begun = next(looks)
        await asyncio.sleep(0.3)
        seen = next(looks) - begun
        spending.settle(held, 0)
        await asyncio.gather(*waiting)
        return seen

    assert asyncio.run(crowd()) < 30
