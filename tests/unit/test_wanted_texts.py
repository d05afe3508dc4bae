"""Texts that are taken out of a list keep their places and keys."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_file

from bulkembed.pipeline.batch.wanted_texts import WantedTexts
from bulkembed.schemas.units import FilePicks

Text = tuple[str, int, int, int]


def wanted(sizes: list[int]) -> WantedTexts:
    """Texts of files; their keys are their positions, times seven."""
    files = tuple(
        FilePicks(a_file(size, f"{n}.jsonl"), np.arange(size), np.arange(size) % 3)
        for n, size in enumerate(sizes)
    )
    return WantedTexts(files, np.arange(sum(sizes), dtype=np.uint64) * np.uint64(7))


def listed(texts: WantedTexts) -> list[Text]:
    places = [
        (one.file.found.path, row, passage)
        for one in texts.files
        for row, passage in zip(one.rows.tolist(), one.passages.tolist(), strict=True)
    ]
    return [(*place, key) for place, key in zip(places, texts.keys.tolist(), strict=True)]


@given(st.lists(st.integers(1, 6), max_size=4), st.data())
def test_some_texts_keep_their_order_places_and_keys(sizes: list[int], data: st.DataObject) -> None:
    texts = wanted(sizes)
    every = listed(texts)
    skip = data.draw(st.sets(st.integers(0, 7 * len(every))))
    left = texts.without(np.array(sorted(skip), np.uint64))
    assert listed(left) == [text for text in every if text[-1] not in skip]
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(every))] * 2)))
    assert listed(texts.part(start, end)) == every[start:end]
    assert all(one.texts for one in (*left.files, *texts.part(start, end).files))
