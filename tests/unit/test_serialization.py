from __future__ import annotations

import dataclasses
import enum
import json
import re
from typing import Any

import pytest

from bulkembed.schemas.serialization import Count, from_plain, to_plain


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True, slots=True)
class Inner:
    name: str
    size: Count = 0

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("no inner is called bad")


@dataclasses.dataclass(frozen=True, slots=True)
class Outer:
    inner: Inner
    seconds: float
    colours: tuple[tuple[Colour, int], ...] = ()
    by_step: dict[int, int] = dataclasses.field(default_factory=dict)
    by_colour: dict[Colour, int | None] = dataclasses.field(default_factory=dict)
    note: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    rows: range


WHOLE = Outer(Inner("x", 3), 1.5, ((Colour.RED, 2),), {-7: 1, 8: 2}, {Colour.BLUE: None}, "n")
PLAIN: dict[str, Any] = {
    "inner": {"name": "x", "size": 3},
    "seconds": 1.5,
    "colours": [["red", 2]],
    "by_step": {"-7": 1, "8": 2},
    "by_colour": {"blue": None},
    "note": "n",
}


def test_a_dataclass_survives_json() -> None:
    text = json.dumps(to_plain(WHOLE))
    assert json.loads(text) == PLAIN
    assert from_plain(json.loads(text), Outer) == WHOLE


def test_missing_fields_get_their_defaults_and_unknown_keys_are_ignored() -> None:
    old = {"inner": {"name": "x"}, "seconds": 1, "of_a_later_version": [1]}
    assert from_plain(old, Outer) == Outer(Inner("x"), 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"seconds": "1.5"}, "seconds: expected float, got str", id="text"),
        pytest.param({"seconds": True}, "seconds: expected float, got bool", id="bool"),
        pytest.param({"inner": {}}, "inner: object missing required field name", id="missing"),
        pytest.param({"inner": []}, "inner: expected object, got array", id="not-an-object"),
        pytest.param(
            {"inner": {"name": "x", "size": -1}}, "inner.size: expected int >= 0", id="negative"
        ),
        pytest.param(
            {"inner": {"name": "x", "size": 1.5}}, "inner.size: expected int, got float", id="float"
        ),
        pytest.param({"colours": [["green", 1]]}, "colours[0][0]: invalid enum value", id="enum"),
        pytest.param({"inner": {"name": "bad"}}, "inner: no inner is called bad", id="own-check"),
    ],
)
def test_the_error_for_a_wrong_value_names_its_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        from_plain({**PLAIN, **change}, Outer)


def test_content_other_than_an_object_is_an_error() -> None:
    with pytest.raises(ValueError, match="xpected object, got array"):
        from_plain([], Outer)


def test_values_of_other_types_are_converted_by_the_given_function() -> None:
    plain = to_plain(Holder(range(2, 7)), lambda value: [value.start, value.stop])
    assert plain == {"rows": [2, 7]}
    assert from_plain(plain, Holder, lambda kind, value: kind(*value)) == Holder(range(2, 7))
