"""Places of known vectors are ordered as the sources store them, at any number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.known_places import (
    NO_PLACES,
    PLACE,
    PlaceSource,
    SourcePart,
    write_places,
)

PARTS = st.lists(st.lists(st.integers(0, 5), max_size=3), max_size=4)


@given(st.lists(PARTS, max_size=3), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_places_are_ordered_by_source_part_row_and_unit(
    tmp_path: Path, groups: list[list[list[int]]], data: st.DataObject
) -> None:
    sources = [
        PlaceSource(
            Dataset.open(str(tmp_path)),
            tuple(SourcePart(f"p{n}", 1, tuple(rows)) for n, rows in enumerate(parts)),
        )
        for parts in groups
    ]
    every = [
        (key, unit, source, part, row)
        for source, one in enumerate(sources)
        for part, rows in enumerate(one.parts)
        for row in range(rows.rows)
        for unit in data.draw(st.lists(st.integers(0, 9), max_size=2, unique=True))
        for key in [1000 * source + 100 * part + row]
    ]
    drawn = data.draw(st.permutations(every))
    cut = data.draw(st.integers(0, len(drawn)))
    arrays: list[Any] = [np.array(some, PLACE) for some in (drawn[:cut], drawn[cut:])]
    at_most = data.draw(st.sampled_from([len(every), 10**8]))
    found = write_places(tmp_path, sources, arrays, at_most)
    assert found.places.tolist() == sorted(every, key=lambda one: (*one[2:], one[1]))
    assert len(found) == len(every)
    assert found.sources == tuple(sources)


def test_places_are_read_from_the_file(tmp_path: Path) -> None:
    source = PlaceSource(Dataset.open(str(tmp_path)), (SourcePart("p", 1, (10,)),))
    places = np.array([(7, 1, 0, 0, 3)], PLACE)
    found = write_places(tmp_path, [source], [places], 1)
    assert isinstance(found.places, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found.places["key"][0] = 1


def test_there_may_be_no_places() -> None:
    assert not len(NO_PLACES)
