"""What a process notes about its spending before it spends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.spending_lease import (
    LEASE_S,
    MIN_LEASE_TOKENS,
    SpendingLease,
    SpendingNote,
    Spent,
)

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "answer", "lose", "renew", "pause", "write"]),
        st.integers(1, 100_000),
    ),
    max_size=80,
)


@given(STEPS, st.none() | st.integers(1, 10**7))
def test_a_kill_at_any_moment_leaves_a_note_that_is_not_too_low(
    steps: list[tuple[str, int]], budget: int | None
) -> None:
    lease, noted = SpendingLease(budget), SpendingNote()
    in_flight: list[int] = []
    billed, clock = 0, 0.0
    writing: SpendingNote | None = None
    for what, number in steps:
        clock += 1.0
        if what == "send":
            if writing is None and not lease.covers(number):
                writing = lease.renewed(clock, number)
                noted, writing = writing, lease.written(writing)
                assert lease.covers(number)
            if lease.covers(number):
                lease.reserve(number)
                in_flight.append(number)
        elif what == "renew" and writing is None:
            writing = lease.renewed(clock, number)
        elif what == "pause" and writing is None:
            writing = lease.ended()
        elif what == "write" and writing is not None:
            noted, writing = writing, lease.written(writing)
        elif in_flight and what in ("answer", "lose"):
            reserved = in_flight.pop()
            paid = reserved if what == "lose" else reserved // 3
            lease.settle(reserved, paid, confirmed=what == "answer")
            billed += paid
        # Each call in flight may have been answered at its maximum, and the note may be the old
        # one or the one that is being written.
        assert billed + sum(in_flight) <= noted.spent.tokens
        assert writing is None or billed + sum(in_flight) <= writing.spent.tokens


def test_a_pause_leaves_an_exact_note() -> None:
    lease = SpendingLease()
    lease.written(lease.renewed(0.0, 100))
    lease.reserve(100)
    lease.settle(100, 70, confirmed=True)
    lease.reserve(50)
    lease.settle(50, 50, confirmed=False)
    assert lease.ended() == SpendingNote(120, 50, 0)
    assert SpendingNote(120, 50, 7).spent == Spent(127, 57)
    assert not lease.covers(1)


def test_a_lease_lasts_about_half_a_minute_at_the_present_speed() -> None:
    lease = SpendingLease()
    note = lease.renewed(0.0, 10)
    assert note.ahead == MIN_LEASE_TOKENS
    lease.written(note)
    lease.reserve(40_000)
    assert lease.is_low
    lease.settle(40_000, 40_000, confirmed=True)
    assert lease.renewed(4.0, 10).ahead == 10_000 * LEASE_S


def test_a_lease_is_a_small_part_of_a_budget() -> None:
    assert SpendingLease(1_000_000).renewed(0.0, 10).ahead == 10_000
    assert SpendingLease(100).renewed(0.0, 10).ahead == 10, "a call always fits"
