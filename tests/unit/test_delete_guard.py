"""The limit of what a run may delete."""

from __future__ import annotations

import pickle

import pytest

from bulkembed.pipeline.run.delete_guard import DEFAULT_DELETE_LIMIT, check_deletes
from bulkembed.pipeline.run.row_amount import RowAmount
from bulkembed.schemas.errors import TooManyDeletes


def test_deletes_within_the_limit_pass() -> None:
    check_deletes(50, 1000, DEFAULT_DELETE_LIMIT, "out")
    check_deletes(0, 0, DEFAULT_DELETE_LIMIT, "out")
    check_deletes(0, 1000, RowAmount(rows=0), "out")


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
