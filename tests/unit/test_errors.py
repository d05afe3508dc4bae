from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

import bulkembed.schemas.errors
from bulkembed.schemas.errors import BulkEmbedError, CallError
from bulkembed.schemas.stop import ExitCode

KINDS = [
    kind
    for kind in vars(bulkembed.schemas.errors).values()
    if isinstance(kind, type) and issubclass(kind, BulkEmbedError)
]
VALUES: dict[str, Any] = {
    "str": "words",
    "str | None": "more",
    "int": 7,
    "int | None": 429,
    "float | None": 1.5,
    "bool": True,
    "ExitCode": ExitCode.COST_CAP,
    "object": "a summary",
}


def facts_of(kind: type[BulkEmbedError]) -> dict[str, Any]:
    """Return a value for each attribute of an error class, none of them the default."""
    facts: dict[str, Any] = {}
    for one in inspect.signature(kind).parameters.values():
        if one.kind is inspect.Parameter.VAR_KEYWORD:
            facts |= facts_of(CallError)
        elif one.name != "message":
            facts[one.name] = VALUES[one.annotation]
    return facts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
def test_a_pickled_error_keeps_its_message_and_its_facts(
    kind: type[BulkEmbedError], way: Any
) -> None:
    facts = facts_of(kind)
    back = way(kind("what, where, cure", **facts))
    assert type(back) is kind
    assert (back.message, vars(back)) == ("what, where, cure", facts)
    assert str(back) == "what, where, cure"


def test_a_call_error_has_facts() -> None:
    assert {"http_status", "code", "retry_delay_s"} <= facts_of(CallError).keys()


def test_the_docstring_draws_the_whole_tree_with_all_facts() -> None:
    drawn = bulkembed.schemas.errors.__doc__ or ""
    assert all(kind.__name__ in drawn for kind in KINDS)
    assert all(fact in drawn for kind in KINDS for fact in facts_of(kind))


def test_an_error_without_an_answer_has_no_http_status() -> None:
    assert CallError("x").http_status is None
    assert CallError("x", http_status=400).http_status == 400
