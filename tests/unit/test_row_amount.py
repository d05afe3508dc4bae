"""Amounts of rows: a number, or a percentage."""

from __future__ import annotations

import pytest

from bulkembed.pipeline.run.row_amount import parse_amount
from bulkembed.schemas.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "total", "rows"),
    [
        pytest.param("5%", 1000, 50, id="percent"),
        pytest.param("5%", 19, 0, id="rounded-down"),
        pytest.param(" 0.5 % ", 1000, 5, id="fraction"),
        pytest.param("100%", 77, 77, id="everything"),
        pytest.param("0%", 10**9, 0, id="no-percent"),
        pytest.param("0", 1000, 0, id="nothing"),
        pytest.param(" 12 ", 3, 12, id="number"),
    ],
)
def test_an_amount_is_a_number_or_a_percentage(text: str, total: int, rows: int) -> None:
    amount = parse_amount("--some", text, "5%")
    assert amount.of(total) == rows
    assert parse_amount("--some", str(amount), "5%") == amount


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1.5", "101%", "%", "1e3", "5%%", "1,000", "5 rows"]
)
def test_anything_else_is_rejected_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_amount("--some", text, "0.5%")
    assert error.value.message == (
        f"invalid --some {text!r}. Use a number of rows, or a percentage up to 100%, such as 0.5%."
    )


@pytest.mark.parametrize("text", ["0", "0%", "0.0 %"])
def test_nothing_may_be_rejected(text: str) -> None:
    with pytest.raises(ConfigError, match="invalid --some"):
        parse_amount("--some", text, "5%", allows_zero=False)
