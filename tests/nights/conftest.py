from __future__ import annotations

from collections.abc import Sequence

import pytest

from bulkembed.pipeline.demo.corpus import docstrings
from nights.catalogue import Night, five_nights
from nights.jobs import Loaded, made_from_nothing
from nights.play import FromNothing

SMALL = ("json", "logging")
MORE = (*SMALL, "asyncio", "email", "tkinter", "unittest", "xml")


@pytest.fixture(scope="session")
def few_nights() -> Sequence[Night]:
    """The nights of a small part of the corpus."""
    return five_nights(list(docstrings(SMALL)))


@pytest.fixture(scope="session")
def more_nights() -> Sequence[Night]:
    """The nights of about 2,000 rows, for places where each request takes its time."""
    return five_nights(list(docstrings(MORE)))


@pytest.fixture(scope="session")
def whole_nights() -> Sequence[Night]:
    """The nights of the whole corpus."""
    return five_nights(list(docstrings()))


@pytest.fixture(scope="session")
def from_nothing(tmp_path_factory: pytest.TempPathFactory) -> FromNothing:
    """What the dataset of a night must be equal to."""
    made: dict[tuple[int, int], Loaded] = {}

    def make(night: Night) -> Loaded:
        key = (night.number, len(night.rows))
        if key not in made:
            made[key] = made_from_nothing(night, tmp_path_factory.mktemp("nothing"))
        return made[key]

    return make
