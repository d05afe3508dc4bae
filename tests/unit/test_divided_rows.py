"""Rows and texts that are divided among files, units and slices."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_file

from bulkembed.pipeline.run.sharing import Sharing
from bulkembed.pipeline.verify.comparison import places_within
from bulkembed.schemas.units import FilePicks


@given(st.lists(st.integers(0, 5), max_size=8), st.data())
def test_rows_are_found_in_their_blocks(sizes: list[int], data: st.DataObject) -> None:
    rows = [(block, row) for block, size in enumerate(sizes) for row in range(size)]
    places = sorted(data.draw(st.sets(st.sampled_from(range(len(rows)))))) if rows else []
    found = [
        (block, row)
        for block, here in places_within(places, range(len(sizes)), sizes)
        for row in here
    ]
    assert found == [rows[place] for place in places]


@given(st.lists(st.integers(1, 300), max_size=8), st.integers(1, 9))
def test_shared_texts_are_cut_into_slices_of_equal_size(sizes: list[int], most: int) -> None:
    files = [a_file(size, f"{number}.parquet") for number, size in enumerate(sizes)]
    picks = tuple(FilePicks(one, np.arange(one.rows), np.zeros(one.rows)) for one in files)
    slices = list(Sharing(picks).slices(most))
    rows = [
        (pick.file.found.name, row)
        for one in slices
        for pick in one.files
        for row in pick.rows.tolist()
    ]
    assert rows == [(one.found.name, row) for one in files for row in range(one.rows)]
    texts = [sum(pick.texts for pick in one.files) for one in slices]
    assert max(texts, default=0) - min(texts, default=0) <= 1
    assert all(pick.texts for one in slices for pick in one.files)
