"""Which rows are sent first, against what a dictionary says."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transforms.core.hashing import text_hash
from transforms.core.repeats import NO_TEXT, keys, shared_rows

TEXTS = st.sampled_from(["a", "b", "c", "d", "e", None])
UNITS = st.lists(st.lists(TEXTS, min_size=1, max_size=6), max_size=6)


@given(UNITS)
def test_the_first_row_of_each_text_of_several_units(units: list[list[str | None]]) -> None:
    rows = [(number, text) for number, unit in enumerate(units) for text in unit]
    where: dict[str, list[int]] = {}
    for row, (_, text) in enumerate(rows):
        if text is not None:
            where.setdefault(text, []).append(row)
    expected = sorted(found[0] for found in where.values() if len({rows[r][0] for r in found}) > 1)
    hashes = [NO_TEXT if text is None else text_hash(None, text) for _, text in rows]
    numbers = np.array([number for number, _ in rows], np.int32)
    assert shared_rows(keys(hashes), numbers).tolist() == expected


def test_a_key_is_the_beginning_of_the_hash() -> None:
    name = text_hash("title", "text")
    assert keys([name, NO_TEXT]).tolist() == [int.from_bytes(name[:8], "little"), 0]
