"""Texts that occur several times are found by their keys."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.repeats import find_repeats, first_and_last

KEYS = st.lists(st.integers(0, 8))


@given(KEYS)
def test_places_are_grouped_by_text(keys: list[int]) -> None:
    where: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        where.setdefault(key, []).append(10 * place)
    found = find_repeats(np.array(keys, np.uint64), 10 * np.arange(len(keys), dtype=np.uint64))
    assert found.keys.tolist() == sorted(where)
    for number, key in enumerate(found.keys.tolist()):
        assert found.places[found.text == number].tolist() == where[key]
        assert found.places[found.first[number]] == where[key][0]
        assert found.places[found.last[number]] == where[key][-1]


@given(KEYS)
def test_the_first_and_the_last_place_of_each_key_remain(keys: list[int]) -> None:
    expected = {keys.index(key) for key in keys}
    expected |= {len(keys) - 1 - keys[::-1].index(key) for key in keys}
    assert first_and_last(np.array(keys, np.uint64)).tolist() == sorted(expected)
