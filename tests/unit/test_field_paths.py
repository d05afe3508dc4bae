"""Names of columns that are paths: how they are split, and what they find in a row."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.field_paths import (
    MISSING,
    NotAnObject,
    field_names,
    is_path,
    path_text,
    readings,
    split_names,
    value_at,
)


class Inner(NamedTuple):
    body: str


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        pytest.param("text", [("text",)], id="no-dot"),
        pytest.param("a.b", [("a.b",), ("a", "b")], id="literal-first"),
        pytest.param(
            "a.b.c", [("a.b.c",), ("a.b", "c"), ("a", "b.c"), ("a", "b", "c")], id="longest-first"
        ),
        pytest.param("_id.$oid", [("_id.$oid",), ("_id", "$oid")], id="mongo"),
        pytest.param('a."b.c"', [('a."b.c"',), ("a", "b.c")], id="quotes"),
        pytest.param('"a.b".c', [('"a.b".c',), ("a.b", "c")], id="quotes-in-front"),
        pytest.param('"a.b"', [('"a.b"',), ("a.b",)], id="quotes-alone"),
        pytest.param("a..b", [("a..b",)], id="empty-piece"),
        pytest.param(".a", [(".a",)], id="leading-dot"),
        pytest.param("a.", [("a.",)], id="trailing-dot"),
        pytest.param('a."b', [('a."b',)], id="open-quote"),
    ],
)
def test_a_name_is_read_as_a_literal_name_first(name: str, ways: list[tuple[str, ...]]) -> None:
    assert list(readings(name)) == ways
    assert is_path(name) == (len(ways) > 1)


@pytest.mark.parametrize(
    ("row", "name", "value"),
    [
        pytest.param({"a": {"b": 1}}, "a.b", 1, id="field"),
        pytest.param({"a": {"b": {"c": 1}}}, "a.b.c", 1, id="deep"),
        pytest.param({"a.b": 2, "a": {"b": 1}}, "a.b", 2, id="literal-wins"),
        pytest.param({"a.b": None, "a": {"b": 1}}, "a.b", None, id="literal-null-wins"),
        pytest.param({"a": {"b.c": 1}}, "a.b.c", 1, id="literal-field"),
        pytest.param({"a.b": {"c": 1}}, "a.b.c", 1, id="literal-column"),
        pytest.param({"a.b": {}, "a": {"b": {"c": 1}}}, "a.b.c", 1, id="shorter-if-missing"),
        pytest.param({"a.b": 5, "a": {"b": {"c": 1}}}, "a.b.c", 1, id="shorter-if-no-object"),
        pytest.param({"a": {"b.c": 1}}, 'a."b.c"', 1, id="quoted"),
        pytest.param({"a": {"b": {"c": 1}}}, 'a."b.c"', MISSING, id="quoted-is-exact"),
        pytest.param({"a": None}, "a.b", None, id="null-on-the-way"),
        pytest.param({"a": {}}, "a.b", MISSING, id="no-field"),
        pytest.param({}, "a.b", MISSING, id="no-column"),
        pytest.param({"a": "x"}, "a.b", NotAnObject("a", "x"), id="a-string-on-the-way"),
        pytest.param({"a": [{"b": 1}]}, "a.b", NotAnObject("a", [{"b": 1}]), id="a-list"),
        pytest.param({"a": Inner("x")}, "a.body", "x", id="named-tuple"),
    ],
)
def test_the_value_of_a_path(row: dict[str, Any], name: str, value: Any) -> None:
    assert value_at(row, name) == value


@given(st.lists(st.text("ab.$ ", min_size=1), min_size=1, max_size=4), st.integers())
def test_the_path_that_is_written_leads_back_to_its_value(names: list[str], value: int) -> None:
    row: Any = value
    for name in reversed(names):
        row = {name: row}
    assert value_at(row, path_text(names)) == value


def test_field_names_are_paths_to_the_fields_of_a_row() -> None:
    row = {"id": 1, "d": {"b": {"c": {"deep": 1}}, "e.f": 2}}
    assert list(field_names(row)) == ["d.b", "d.b.c", 'd."e.f"']


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        pytest.param("", [], id="none"),
        pytest.param("a, b,,c ", ["a", "b", "c"], id="plain"),
        pytest.param('a."b,c",d', ['a."b,c"', "d"], id="comma-in-quotes"),
    ],
)
def test_a_list_of_names_is_split_at_commas(typed: str, names: list[str]) -> None:
    assert split_names(typed) == names
