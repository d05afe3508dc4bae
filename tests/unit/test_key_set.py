"""A set of keys, compared with a set of Python's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core import key_set
from bulkembed.transforms.core.key_set import KeySet

KEYS = st.lists(st.integers(0, 50) | st.integers(2**64 - 20, 2**64 - 1), max_size=30)


@pytest.mark.parametrize("few", [1, 4096])
@given(added=st.lists(KEYS, max_size=8), wanted=KEYS)
def test_a_key_is_in_the_set_once_it_was_added(
    few: int, added: list[list[int]], wanted: list[int]
) -> None:
    before, key_set._FEW = key_set._FEW, few
    try:
        keys, expected = KeySet(), set[int]()
        for some in added:
            keys.add(np.array(some, np.uint64))
            expected |= set(some)
        found = keys.has(np.array(wanted, np.uint64)).tolist()
    finally:
        key_set._FEW = before
    assert found == [key in expected for key in wanted]
