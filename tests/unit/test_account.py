from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_job, prepared

from bulkembed.schemas.prices import Budget
from bulkembed.transforms.core.account import EXTRA_TOKENS, Account, Leave, most_cost

CALLS = st.lists(
    st.tuples(st.sampled_from(["ask", "answer", "lose", "kill"]), st.integers(1, 60)), max_size=60
)


@given(CALLS, st.integers(1, 500), st.integers(0, 100))
def test_what_is_paid_never_passes_the_limit(
    steps: list[tuple[str, int]], most: int, known: int
) -> None:
    account, flying, billed = Account(), [], 0
    account.begin(known)
    for what, tokens in steps:
        if what == "ask":
            if account.hold(tokens, most) is Leave.GO:
                flying.append(tokens)
        elif what == "kill":
            billed += sum(flying)  # Each of them may have been answered, at its dearest.
            flying.clear()
            account.begin(0)
        elif flying:
            held = flying.pop()
            paid = held if what == "lose" else held // 3
            account.settle(held, paid, account.run)
            billed += paid
        assert account.paid + account.held <= max(most, known)
        assert account.held == sum(flying)
        assert billed + known <= account.paid


def test_a_call_waits_only_for_what_others_may_give_back() -> None:
    account = Account()
    assert account.hold(60, 100) is Leave.GO
    assert account.hold(60, 100) is Leave.WAIT
    account.settle(60, 20, account.run)
    assert account.hold(60, 100) is Leave.GO
    account.settle(60, 60, account.run)
    assert account.hold(60, 100) is Leave.NEVER


def test_a_limit_that_was_reached_leaves_no_gap_to_fill() -> None:
    account = Account(paid=50)
    assert account.hold(60, 100) is Leave.NEVER
    account.begin(0)
    assert account.hold(1, 100) is Leave.NEVER
    assert account.hold(1, 99) is Leave.NEVER
    assert account.hold(1, 101) is Leave.GO
    assert account.hold(10**9, None) is Leave.GO


def test_what_a_killed_run_held_counts_as_paid_once() -> None:
    account = Account()
    account.hold(60, None)
    old = account.run
    account.begin(10)
    account.settle(60, 20, old)
    assert (account.paid, account.held) == (60, 0)


def test_commit_records_that_know_of_more_are_believed() -> None:
    account = Account(paid=5)
    account.begin(70)
    assert account.paid == 70


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 10**6), st.integers(0, 2**62))
def test_it_is_read_back_as_it_was_written(paid: int, held: int, run: int, reached: int) -> None:
    account = Account(paid, held, run, reached)
    data = account.to_bytes()
    assert Account.from_bytes(data) == account
    assert len(data) == len(Account().to_bytes())


@pytest.mark.parametrize("data", [b"x", b"[]", b"{}", b'{"paid": 1}', b"7"])
def test_anything_else_is_no_account(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Account.from_bytes(data)


def test_a_text_never_costs_more_than_its_bytes_and_some() -> None:
    items = prepared(["abc", "déjà vu"], a_job()).items
    assert most_cost(items) == 3 + 9 + 2 * EXTRA_TOKENS


@given(
    st.decimals("0.0001", "100000", places=4).map(float),
    st.decimals("0.0001", "1000000", places=4).map(float),
)
def test_the_tokens_of_a_budget_cost_no_more_than_it(usd: float, price: float) -> None:
    tokens = Budget(usd, price).tokens
    assert tokens * price <= usd * 1_000_000 * (1 + 1e-12)
    assert (tokens + 1) * price >= usd * 1_000_000 * (1 - 1e-12)


def test_an_account_of_an_earlier_version_is_read() -> None:
    old = b'{"paid": 7, "held": 3, "run": 2, "reached": 0}'
    assert Account.from_bytes(old) == Account(paid=7, held=3, run=2)


def test_whoever_waits_sees_that_others_are_at_work() -> None:
    account = Account()
    seen = {account.moves}
    for _ in range(3):
        assert account.hold(60, 100) is Leave.GO
        seen.add(account.moves)
        account.settle(60, 0, account.run)
        seen.add(account.moves)
    assert len(seen) == 7
