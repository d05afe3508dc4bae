"""The stores that tests run on, each served on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.stores import STORES, Store


@pytest.fixture(params=list(STORES))
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Yield a store; skip the test if its server is not installed."""
    try:
        with STORES[request.param]() as running:
            yield running
    except LookupError as missing:
        pytest.skip(str(missing))
