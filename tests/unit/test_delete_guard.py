"""The limit of what a run may delete."""

from __future__ import annotations

import pickle

import pytest

from bulkembed.pipeline.run.delete_guard import (
    DEFAULT_DELETE_LIMIT,
    DeleteLimit,
    check_deletes,
    parse_delete_limit,
)
from bulkembed.schemas.errors import ConfigError, TooManyDeletes


@pytest.mark.parametrize(
    ("text", "total", "allowed"),
    [
        pytest.param("5%", 1000, 50, id="percent"),
        pytest.param("5%", 19, 0, id="rounded-down"),
        pytest.param(" 0.5 % ", 1000, 5, id="fraction"),
        pytest.param("100%", 7, 7, id="everything"),
        pytest.param("0", 1000, 0, id="nothing"),
        pytest.param("12", 3, 12, id="number"),
    ],
)
def test_a_limit_is_a_number_or_a_percentage(text: str, total: int, allowed: int) -> None:
    limit = parse_delete_limit(text)
    assert limit.allowed(total) == allowed
    assert parse_delete_limit(str(limit)) == limit


@pytest.mark.parametrize("text", ["", "5 rows", "101%", "-1", "1.5", "%"])
def test_anything_else_is_rejected(text: str) -> None:
    with pytest.raises(ConfigError, match="--max-delete"):
        parse_delete_limit(text)


def test_deletes_within_the_limit_pass() -> None:
    check_deletes(50, 1000, DEFAULT_DELETE_LIMIT, "out")
    check_deletes(0, 0, DEFAULT_DELETE_LIMIT, "out")
    check_deletes(0, 1000, DeleteLimit(rows=0), "out")


def test_more_deletes_are_an_error_with_the_numbers_and_the_flag() -> None:
    with pytest.raises(TooManyDeletes) as caught:
        check_deletes(750, 1000, DEFAULT_DELETE_LIMIT, "out/docs: 3 input files are missing")
    message = caught.value.message
    assert message.startswith("out/docs: 3 input files are missing. This run would delete 750 of")
    assert "1,000 rows (75 %)" in message
    assert "--max-delete 5% allows 50" in message
    assert "--max-delete 750" in message
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.deleted, copy.allowed) == (750, 50)
