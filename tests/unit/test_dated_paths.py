"""`{date}` in the paths of a run."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from bulkembed.pipeline.cli.dated_paths import with_date
from bulkembed.schemas.errors import ConfigError

TODAY = dt.date(2024, 3, 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"output": "o"}, {"output": "o"}, id="no-date"),
        pytest.param(
            {"output": "o/dt={date}", "date": None},
            {"output": "o/dt=2024-03-01", "date": "2024-03-01"},
            id="today",
        ),
        pytest.param(
            {"output": "o/{date}", "date": "2023-12-31"},
            {"output": "o/2023-12-31", "date": "2023-12-31"},
            id="given",
        ),
        pytest.param(
            {"patterns": ("a/{date}/*", "b/*"), "output": "o", "reuse": ("o/{date-1}",)},
            {
                "patterns": ("a/2024-03-01/*", "b/*"),
                "output": "o",
                "reuse": ("o/2024-02-29",),
                "date": "2024-03-01",
            },
            id="all-paths",
        ),
        pytest.param(
            {"output": "o/{dt}", "patterns": ("{date}",), "text_template": "{date}"},
            {
                "output": "o/{dt}",
                "patterns": ("2024-03-01",),
                "text_template": "{date}",
                "date": "2024-03-01",
            },
            id="nothing-else",
        ),
    ],
)
def test_the_date_is_filled_in(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert with_date(options, TODAY) == expected


def test_a_date_that_no_path_has_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"--date 2024-01-01: no path has a date"):
        with_date({"output": "o", "date": "2024-01-01"}, TODAY)
