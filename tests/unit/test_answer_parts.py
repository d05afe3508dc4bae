"""The parts of an answer to a call that several units share."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support import jumping_loop
from support.call_world import Client, Receiver, caller_on, text_of
from support.quota_world import Service

from bulkembed.schemas.media import MediaTokens
from bulkembed.schemas.quota import QuotaLimits
from bulkembed.transforms.calls.answer_parts import answers_of, shares
from bulkembed.transforms.calls.deliveries import Delivery, Portion, contents_of, split_at
from bulkembed.transforms.clients.decoding import Answer


def portions_of(sizes: Sequence[int]) -> list[Portion]:
    async def made() -> list[Portion]:
        texts = [[text_of(size)] * size for size in sizes]
        return [Portion(one, Delivery(Receiver(), len(one))) for one in texts]

    return asyncio.run(made())


@given(st.integers(0, 10_000), st.lists(st.integers(0, 500), min_size=1, max_size=9))
def test_shares_add_up_and_are_in_proportion(total: int, weights: list[int]) -> None:
    found = shares(total, weights)
    assert sum(found) == total
    assert min(found) >= 0
    if sum(weights):
        exact = [total * weight / sum(weights) for weight in weights]
        assert all(math.isclose(a, b, abs_tol=1) for a, b in zip(found, exact, strict=True))


def test_each_part_has_its_own_vectors_and_the_counts_add_up() -> None:
    portions = portions_of([2, 1, 3])
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    answer = Answer(vectors, 100, None, (True, False, None, True, True, False), MediaTokens(7))
    parts = list(answers_of(answer, portions))
    assert np.array_equal(np.concatenate([one.vectors for one in parts]), vectors)
    assert [len(one.vectors) for one in parts] == [2, 1, 3]
    assert sum(one.tokens or 0 for one in parts) == 100
    assert [one.truncated for one in parts] == [(True, False), (None,), (True, True, False)]
    assert sum(one.media.image for one in parts if one.media) == 7


def test_counts_of_each_text_are_kept() -> None:
    answer = Answer(np.ones((3, 2), np.float32), 60, (10, 20, 30))
    parts = answers_of(answer, portions_of([2, 1]))
    assert [(one.tokens, one.text_tokens) for one in parts] == [(30, (10, 20)), (30, (30,))]


def test_what_the_service_does_not_count_stays_unknown() -> None:
    answer = Answer(np.ones((3, 2), np.float32))
    parts = answers_of(answer, portions_of([2, 1]))
    assert [(one.tokens, one.media) for one in parts] == [(None, None)] * 2


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 30))
def test_splitting_keeps_order_and_receivers(sizes: list[int], count: int) -> None:
    portions = portions_of(sizes)
    first, rest = split_at(portions, count)
    assert contents_of(first) == contents_of(portions)[:count]
    assert contents_of([*first, *rest]) == contents_of(portions)
    owners = [one.delivery for one in (*first, *rest) for _ in one.contents]
    assert owners == [one.delivery for one in portions for _ in one.contents]


def test_a_request_whose_first_unit_has_ended_is_counted_by_the_next_one() -> None:
    loop = jumping_loop.JumpingLoop()
    client = Client(Service(), loop)
    caller, _ = caller_on(loop, client, QuotaLimits())
    receivers = [Receiver() for _ in range(3)]

    async def run() -> None:
        tasks = [
            asyncio.create_task(caller.embed([text_of(8)] * (number + 1), receiver))
            for number, receiver in enumerate(receivers)
        ]
        while len(client.calls) < 2:  # The first one goes alone, as a probe.
            await asyncio.sleep(0.01)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    jumping_loop.run(run(), loop)
    assert [len(call) for call in client.calls] == [1, 5]
    assert [one.calls for one in receivers] == [1, 0, 1]
