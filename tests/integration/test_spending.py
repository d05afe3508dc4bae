"""How a process uses the account of its dataset."""

from __future__ import annotations

import asyncio
import itertools
import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import jumping_loop
from support.call_world import Client, caller_on, embed_units, text_of
from support.jobs import a_job, prepared
from support.quota_world import Service

from bulkembed.pipeline.run.cost_cap import delete_account, start_account
from bulkembed.schemas.errors import CallError, JobRejected, OutputError, Unavailable
from bulkembed.schemas.prices import Budget
from bulkembed.schemas.quota import QuotaLimits
from bulkembed.schemas.stop import ExitCode, StopReason
from bulkembed.transforms.calls.spending import Reservation, Spending
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.core.spending_lease import SpendingNote
from bulkembed.transforms.core.token_account import SpendDecision, max_billed_tokens
from bulkembed.transforms.dataset.account_file import AccountFile
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import ACCOUNT
from bulkembed.transforms.dataset.records import DatasetState

ITEMS = prepared(["one text", "and another"], a_job()).items
COST = max_billed_tokens(ITEMS)
ROOM_FOR_ONE = Budget(COST * 1.5, 1_000_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "account.json"


async def reserve(spending: Spending) -> int:
    """Wait for room and reserve it, as a call does that never waits for quota."""
    await spending.wait_for_room(ITEMS)
    reserved = spending.reserve(ITEMS)
    assert reserved is not None
    assert reserved.texts == len(ITEMS)
    return reserved.tokens


def test_a_call_waits_until_another_process_returns_tokens(path: Path) -> None:
    one, two = (Spending(AccountFile(path), ROOM_FOR_ONE, StopFlag()) for _ in range(2))

    async def both() -> int:
        reserved = await reserve(one)
        waiting = asyncio.create_task(reserve(two))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        one.settle(reserved, COST // 4)
        return await waiting

    assert jumping_loop.run(both()) == COST


def test_a_call_of_a_run_before_overwrite_does_not_change_the_new_account(tmp_path: Path) -> None:
    dataset = Dataset.open(str(tmp_path))
    path = tmp_path / ACCOUNT
    path.parent.mkdir()

    def run(number: int) -> Spending:
        job = a_job(account=str(path), budget=ROOM_FOR_ONE, run_number=number)
        start_account(job, dataset, DatasetState())
        return Spending(AccountFile(path), ROOM_FOR_ONE, StopFlag())

    old = run(1)
    reserved = asyncio.run(reserve(old))
    delete_account(a_job(account=str(path)), Dataset.open(str(tmp_path)))
    new = run(2)
    old.settle(reserved, COST // 4)
    asyncio.run(reserve(new))
    assert new.reserve(ITEMS) is None, "one call fits, and two may cost more than the budget"


def test_a_call_does_not_wait_for_a_lost_process(path: Path) -> None:
    with AccountFile(path).account() as account:
        account.reserve(COST, None)
    stop, seconds = StopFlag(), itertools.count(step=30)
    spending = Spending(
        AccountFile(path), ROOM_FOR_ONE, stop, call_s=60, clock=lambda: next(seconds)
    )
    with pytest.raises(Stopping):
        asyncio.run(reserve(spending))
    assert stop.stop is not None
    assert (stop.stop.reason, stop.stop.exit_code) == (StopReason.COST_CAP, ExitCode.COST_CAP)


@pytest.mark.parametrize(
    ("error", "paid"),
    [
        pytest.param(Unavailable("reset"), COST, id="unknown"),
        pytest.param(Unavailable("503", http_status=503), 0, id="not-answered"),
        pytest.param(JobRejected("key", http_status=403), 0, id="rejected"),
    ],
)
def test_a_failed_call_costs_what_it_may_have_cost(path: Path, error: CallError, paid: int) -> None:
    spending = Spending(AccountFile(path), ROOM_FOR_ONE, StopFlag())
    spending.failed(asyncio.run(reserve(spending)), error)
    with AccountFile(path).account() as account:
        assert (account.paid, account.reserved) == (paid, 0)


def test_without_a_budget_an_account_that_cannot_be_written_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spending = Spending(AccountFile(tmp_path / "none/account.json"), None, StopFlag())
    with caplog.at_level(logging.WARNING, "bulkembed"):
        for _ in range(3):
            spending.settle(asyncio.run(reserve(spending)), COST)
    assert [record.message.count("cannot be written") for record in caplog.records] == [1]


def test_with_a_budget_an_account_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    spending = Spending(AccountFile(tmp_path / "none/account.json"), ROOM_FOR_ONE, StopFlag())
    with pytest.raises(OutputError, match="cannot be written"):
        asyncio.run(reserve(spending))


def test_a_call_whose_room_was_taken_in_the_meantime_waits_again(path: Path) -> None:
    one, two = (Spending(AccountFile(path), ROOM_FOR_ONE, StopFlag()) for _ in range(2))
    asyncio.run(two.wait_for_room(ITEMS))
    reserved = asyncio.run(reserve(one))
    assert two.reserve(ITEMS) is None
    one.settle(reserved, 0)
    assert two.reserve(ITEMS) == Reservation(len(ITEMS), COST)


def test_a_call_waits_for_as_long_as_the_account_changes(path: Path) -> None:
    """A call waits longer than one call can take, because others reserve and settle meanwhile."""
    now = [0.0]
    stop = StopFlag()
    one, two = (
        Spending(AccountFile(path), ROOM_FOR_ONE, stop, call_s=60, clock=lambda: now[0])
        for _ in range(2)
    )

    async def generations() -> bool:
        reserved = await reserve(one)
        waiting = asyncio.create_task(two.wait_for_room(ITEMS))
        for _ in range(10):
            await asyncio.sleep(0.06)
            now[0] += 50
            with AccountFile(path).account() as account:  # An outage: a retry, nothing paid.
                account.settle(reserved, 0, account.run_number)
                assert account.reserve(reserved, None) is SpendDecision.YES
            await asyncio.sleep(0.06)
            assert not waiting.done()
        one.settle(reserved, 0)
        await waiting
        return stop.is_set()

    assert jumping_loop.run(generations()) is False


def test_only_the_first_call_in_the_queue_reads_the_account(path: Path) -> None:
    stop, looks = StopFlag(), itertools.count()
    spending = Spending(
        AccountFile(path), ROOM_FOR_ONE, stop, call_s=1e9, clock=lambda: float(next(looks))
    )

    async def crowd() -> int:
        reserved = await reserve(spending)
        waiting = [asyncio.create_task(spending.wait_for_room(ITEMS)) for _ in range(200)]
        begun = next(looks)
        await asyncio.sleep(0.3)
        seen = next(looks) - begun
        spending.settle(reserved, 0)
        await asyncio.gather(*waiting)
        return seen

    assert jumping_loop.run(crowd()) < 30


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    budget=st.integers(1, 40_000),
    sizes=st.lists(st.integers(1, 150), min_size=1, max_size=6),
    processes=st.integers(1, 3),
)
@example(budget=2_000, sizes=[150], processes=1)
def test_calls_are_as_large_as_the_budget_has_room_for(
    path: Path, budget: int, sizes: list[int], processes: int
) -> None:
    path.unlink(missing_ok=True)
    loop, text = jumping_loop.JumpingLoop(), text_of(8)
    client = Client(Service(1e18), loop)
    callers = [
        caller_on(
            loop, client, QuotaLimits(), account=AccountFile(path), budget=Budget(budget, 1_000_000)
        )[0]
        for _ in range(processes)
    ]

    async def all_of_them() -> None:
        units = [[text] * size for size in sizes]
        await asyncio.gather(*(embed_units(caller, units) for caller in callers))

    jumping_loop.run(all_of_them(), loop)
    sent = sum(map(len, client.calls))
    with AccountFile(path).account() as account:
        assert account.paid == sent * text.tokens
        assert account.paid <= budget
        assert account.reserved == 0
    one = max_billed_tokens([text])
    assert sent == processes * sum(sizes) or budget - sent * text.tokens < one
    assert len(client.calls) <= sent / 20 + 30


def test_a_note_covers_no_more_than_the_budget_has_room_for(path: Path) -> None:
    notes = list[SpendingNote]()
    budget, many = Budget(COST * 3.5, 1_000_000), [*ITEMS] * 100
    spending = Spending(AccountFile(path), budget, StopFlag(), write_note=notes.append)
    assert spending.reserve(many) is None, "no note covers it"
    asyncio.run(spending.wait_for_room(many))
    reserved = spending.reserve(many)
    assert reserved is not None
    assert reserved.texts in (6, 7)
    assert reserved.tokens <= notes[-1].spent.tokens <= budget.tokens
