from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.inputs.text_recipe import (
    TextRecipe,
    decode_template,
    encode_template,
    has_undecoded_escapes,
)


@given(st.text(st.sampled_from("\\\\ntrx{} \n\t") | st.characters(), max_size=30))
def test_every_template_can_be_typed(template: str) -> None:
    assert decode_template(encode_template(template)) == template


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        pytest.param(r"{a}\n{b}", "{a}\n{b}", id="line-break"),
        pytest.param("{a}\n{b}", "{a}\n{b}", id="a-line-break-itself"),
        pytest.param(r"{a}\r\n\t{b}", "{a}\r\n\t{b}", id="others"),
        pytest.param(r"{a}\\n{b}", r"{a}\n{b}", id="a-backslash-and-an-n"),
        pytest.param(r"{a}\\\n{b}", "{a}\\\n{b}", id="a-backslash-and-a-line-break"),
    ],
)
def test_escapes_are_decoded_from_left_to_right(typed: str, meant: str) -> None:
    assert decode_template(typed) == meant


@pytest.mark.parametrize("typed", [r"{a}\x41", r"{a}\{b}", "{a}\\", r"{a}\N", "{a}\\\n"])
def test_an_unknown_escape_is_an_error(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown escape|a backslash at the end"):
        decode_template(typed)


@pytest.mark.parametrize(
    ("template", "undecoded"),
    [(r"{a}\n{b}", True), (r"{a}\t", True), ("{a}\n{b}", False), (r"C:\d{a}", False)],
)
def test_a_template_with_undecoded_escapes_is_recognized(template: str, undecoded: bool) -> None:
    assert has_undecoded_escapes(template) is undecoded


def test_a_template_whose_fields_are_all_blank_makes_a_blank_text() -> None:
    recipe = TextRecipe.of(InputColumns(text_column=None, text_template="Title: {a}\n{b}"))
    assert recipe.text({"a": None}) is None
    assert recipe.text({"a": "", "b": None}) == ""
    assert recipe.text({"a": " ", "b": "\n"}) == ""
    assert recipe.text({"a": " ", "b": "x"}) == "Title:  \nx"
