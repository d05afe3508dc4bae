from __future__ import annotations

import pickle

import pytest

import bulkembed.schemas.errors
from bulkembed.schemas.errors import BulkEmbedError, CallError
from bulkembed.transforms.core.verdict import QuotaWords

KINDS = [
    kind
    for kind in vars(bulkembed.schemas.errors).values()
    if isinstance(kind, type) and issubclass(kind, BulkEmbedError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_message_and_facts_on_its_way_through_pickle(
    kind: type[BulkEmbedError],
) -> None:
    facts = {"http_status": 429, "quota": QuotaWords(1.5, "PerDay", 7), "index": None}
    back = pickle.loads(pickle.dumps(kind("what, where, cure", **facts)))
    assert type(back) is kind
    assert (back.message, back.facts) == ("what, where, cure", facts)
    assert str(back) == "what, where, cure"


def test_the_docstring_draws_the_whole_tree() -> None:
    drawn = bulkembed.schemas.errors.__doc__ or ""
    assert all(kind.__name__ in drawn for kind in KINDS)


def test_an_error_without_an_answer_has_no_http_status() -> None:
    assert CallError("x").http_status is None
    assert CallError("x", http_status="400").http_status is None
    assert CallError("x", http_status=400).http_status == 400
