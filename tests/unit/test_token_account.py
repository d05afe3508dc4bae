from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_job, prepared

from bulkembed.schemas.prices import Budget
from bulkembed.transforms.core.token_account import (
    EXTRA_TOKENS,
    SpendDecision,
    TokenAccount,
    max_billed_tokens,
)

CALLS = st.lists(
    st.tuples(st.sampled_from(["send", "answer", "lose", "kill"]), st.integers(1, 60)), max_size=60
)


@given(CALLS, st.integers(1, 500), st.integers(0, 100))
def test_paid_tokens_never_exceed_the_limit(
    steps: list[tuple[str, int]], limit: int, known: int
) -> None:
    account, in_flight, billed = TokenAccount(), [], 0
    account.start_run(known)
    for what, tokens in steps:
        if what == "send":
            if account.reserve(tokens, limit) is SpendDecision.YES:
                in_flight.append(tokens)
        elif what == "kill":
            billed += sum(in_flight)  # Each may have been answered, at its maximum cost.
            in_flight.clear()
            account.start_run(0)
        elif in_flight:
            reserved = in_flight.pop()
            paid = reserved if what == "lose" else reserved // 3
            account.settle(reserved, paid, account.run_number)
            billed += paid
        assert account.paid + account.reserved <= max(limit, known)
        assert account.reserved == sum(in_flight)
        assert billed + known <= account.paid


def test_a_call_waits_only_while_others_may_return_tokens() -> None:
    account = TokenAccount()
    assert account.reserve(60, 100) is SpendDecision.YES
    assert account.reserve(60, 100) is SpendDecision.WAIT
    account.settle(60, 20, account.run_number)
    assert account.reserve(60, 100) is SpendDecision.YES
    account.settle(60, 60, account.run_number)
    assert account.reserve(60, 100) is SpendDecision.NO


def test_after_the_limit_was_reached_no_gap_is_filled() -> None:
    account = TokenAccount(paid=50)
    assert account.reserve(60, 100) is SpendDecision.NO
    account.start_run(0)
    assert account.reserve(1, 100) is SpendDecision.NO
    assert account.reserve(1, 99) is SpendDecision.NO
    assert account.reserve(1, 101) is SpendDecision.YES
    assert account.reserve(10**9, None) is SpendDecision.YES


def test_the_reservations_of_a_killed_run_count_as_paid_once() -> None:
    account = TokenAccount()
    account.reserve(60, None)
    old = account.run_number
    account.start_run(10)
    account.settle(60, 20, old)
    assert (account.paid, account.reserved) == (60, 0)


def test_a_higher_count_of_the_commit_records_is_used() -> None:
    account = TokenAccount(paid=5)
    account.start_run(70)
    assert account.paid == 70


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 10**6), st.integers(0, 2**62))
def test_an_account_is_read_as_it_was_written(
    paid: int, reserved: int, run: int, reached: int
) -> None:
    account = TokenAccount(paid, reserved, run, reached)
    data = account.to_bytes()
    assert TokenAccount.from_bytes(data) == account
    assert len(data) == len(TokenAccount().to_bytes())


@pytest.mark.parametrize("data", [b"x", b"[]", b"{}", b'{"paid": 1}', b"7"])
def test_other_bytes_are_not_an_account(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        TokenAccount.from_bytes(data)


def test_a_text_costs_at_most_its_bytes_and_some_tokens() -> None:
    items = prepared(["abc", "déjà vu"], a_job()).items
    assert max_billed_tokens(items) == 3 + 9 + 2 * EXTRA_TOKENS


@given(
    st.decimals("0.0001", "100000", places=4).map(float),
    st.decimals("0.0001", "1000000", places=4).map(float),
)
def test_the_tokens_of_a_budget_cost_at_most_the_budget(usd: float, price: float) -> None:
    tokens = Budget(usd, price).tokens
    assert tokens * price <= usd * 1_000_000 * (1 + 1e-12)
    assert (tokens + 1) * price >= usd * 1_000_000 * (1 - 1e-12)


def test_an_account_of_an_earlier_version_is_read() -> None:
    old = b'{"paid": 7, "held": 3, "run": 2, "reached": 0}'
    assert TokenAccount.from_bytes(old) == TokenAccount(paid=7, reserved=3, run_number=2)


def test_every_change_is_visible_to_waiting_calls() -> None:
    account = TokenAccount()
    seen = {account.changes}
    for _ in range(3):
        assert account.reserve(60, 100) is SpendDecision.YES
        seen.add(account.changes)
        account.settle(60, 0, account.run_number)
        seen.add(account.changes)
    assert len(seen) == 7
