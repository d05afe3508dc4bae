"""The filter of keys never loses one, and rarely takes another for one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.key_filter import KeyFilter

KEYS = st.lists(st.integers(0, 2**64 - 1), max_size=50)


@given(KEYS, KEYS)
def test_no_added_key_is_lost(first: list[int], second: list[int]) -> None:
    found = KeyFilter(len(first))
    for keys in (first, second):
        found.add(np.array(keys, np.uint64))
    assert found.may_have(np.array(first + second, np.uint64)).all()


def test_few_other_keys_are_taken_for_added_ones() -> None:
    chance = np.random.default_rng(1)
    added, others = chance.integers(0, 2**64, (2, 50_000), np.uint64)
    found = KeyFilter(len(added))
    found.add(added)
    assert found.may_have(others).mean() < 0.01
    assert not KeyFilter(0).may_have(others).any()
