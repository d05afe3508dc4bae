"""The texts that are sent first, compared with a dictionary."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.hashing import keys, shared_texts, text_hash

TEXTS = st.sampled_from(["a", "b", "c", "d", "e"])
UNITS = st.lists(st.lists(TEXTS, min_size=1, max_size=6), max_size=6)


@given(UNITS)
def test_the_first_place_of_each_text_in_several_units_is_found(units: list[list[str]]) -> None:
    texts = [(number, text) for number, unit in enumerate(units) for text in unit]
    where: dict[str, list[int]] = {}
    for place, (_, text) in enumerate(texts):
        where.setdefault(text, []).append(place)
    expected = sorted(found[0] for found in where.values() if len({texts[t][0] for t in found}) > 1)
    hashes = [text_hash(None, text) for _, text in texts]
    numbers = np.array([number for number, _ in texts], np.int32)
    assert shared_texts(keys(hashes), numbers).tolist() == expected


def test_a_key_is_the_beginning_of_the_hash() -> None:
    name = text_hash("title", "text")
    assert keys([name, bytes(16)]).tolist() == [int.from_bytes(name[:8], "little"), 0]
