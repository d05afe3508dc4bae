from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.pipeline.run.request import DEFAULT_BUDGET, parse_budget
from bulkembed.schemas.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "planned", "most"),
    [
        (None, 100, 10), (None, 1000, 10), (None, 1001, 10), (None, 1100, 11),
        (None, 1_000_000, 10_000), (None, 0, 10), ("0", 1000, 0), ("25", 10, 25),
        ("0.5%", 1000, 5),
    ],
)  # fmt: skip
def test_a_number_or_a_part_of_the_planned_rows_may_fail(
    text: str | None, planned: int, most: int
) -> None:
    assert parse_budget(text).allowed(planned) == most


def test_another_text_is_rejected_and_the_error_names_the_flag() -> None:
    with pytest.raises(ConfigError, match="invalid --max-dead-letters '5 rows'"):
        parse_budget("5 rows")


@given(st.integers(0, 10**12))
def test_by_default_it_is_one_in_a_hundred_and_at_least_ten(planned: int) -> None:
    assert DEFAULT_BUDGET.allowed(planned) == max(10, planned // 100)


@pytest.mark.parametrize(
    ("text", "planned", "most"),
    [(None, 8, 0), (None, 1000, 10), ("25", 10, 25), ("0.5%", 1000, 5), ("100%", 8, 8)],
)
def test_the_least_number_does_not_cover_a_file_that_failed_as_a_whole(
    text: str | None, planned: int, most: int
) -> None:
    assert parse_budget(text).allowed_in_failed_files(planned) == most
