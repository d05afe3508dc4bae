from __future__ import annotations

from bulkembed.schemas.errors import Unavailable
from bulkembed.transforms.clients.patience import MAX_FAILURES, Patience

ERROR = Unavailable("m")


def failures(patience: Patience, positions: list[int]) -> int:
    """How many failures there are, each at the next position, until the patience ends."""
    for count, position in enumerate(positions, 1):
        patience.reached(position)
        try:
            patience.failed(ERROR)
        except Unavailable:
            return count
    return -1


def test_waits_grow_until_the_last_failure_is_raised() -> None:
    waits: list[float] = []
    assert failures(Patience(waits.append), [0] * 100) == MAX_FAILURES
    assert waits[:6] == sorted(waits[:6])
    assert len(waits) == MAX_FAILURES - 1
    assert sum(waits) > 30


def test_a_transfer_that_makes_progress_goes_on() -> None:
    assert failures(Patience(lambda _: None), list(range(100))) == -1


def test_a_transfer_that_only_gets_where_it_was_ends() -> None:
    there_and_back = [5, 3, 4] * 100
    assert failures(Patience(lambda _: None), there_and_back) == MAX_FAILURES


def test_the_delay_that_the_service_asks_for_is_kept() -> None:
    waits: list[float] = []
    Patience(waits.append).failed(Unavailable("m", retry_delay_s=40.0))
    assert waits[0] >= 40
