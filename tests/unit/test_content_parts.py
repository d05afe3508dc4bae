"""`--content`: what its parts mean."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.schemas.content_parts import ContentPart, check_switches, has_media, parse_part
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.media import MediaKind
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.transforms.inputs.row_parts import MediaValue, PartReader
from bulkembed.transforms.inputs.text_recipe import TextRecipe

NAMES = st.text(string.ascii_letters + string.digits + "_.:- é", min_size=1).filter(str.strip)


@pytest.mark.parametrize(
    ("typed", "kind", "fields"),
    [
        pytest.param("image:photo", MediaKind.IMAGE, ("photo",), id="image"),
        pytest.param("pdf:docs.manual", MediaKind.PDF, ("docs.manual",), id="field"),
        pytest.param("audio:a:b", MediaKind.AUDIO, ("a:b",), id="colon in a name"),
        pytest.param("text:body", None, ("body",), id="text"),
        pytest.param("{title}. {body}", None, ("title", "body"), id="template"),
        pytest.param("image: {title}", None, ("title",), id="template that begins like media"),
        pytest.param("{{x}} {a} {a}", None, ("a",), id="braces"),
    ],
)
def test_a_part_is_a_text_or_the_media_of_a_column(
    typed: str, kind: MediaKind | None, fields: tuple[str, ...]
) -> None:
    part = parse_part(typed)
    assert (part.kind, part.fields) == (kind, fields)
    assert parse_part(str(part)) == part
    assert has_media([part]) is (kind is not None)


@given(st.sampled_from(MediaKind), NAMES)
def test_every_column_can_be_named(kind: MediaKind, column: str) -> None:
    part = parse_part(f"{kind}:{column}")
    assert part == ContentPart(kind, column)
    if ":" not in column:
        assert parse_part(f"text:{column}").fields == (column,)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("photo", "names no column"),
        ("", "names no column"),
        ("image:", "names no column"),
        ("image: ", "names no column"),
        ("picture:photo", "one of text:COLUMN, image:COLUMN"),
        ("{title", "expected '}'"),
        ("{a:>3}", "without a format"),
        ("{}", "must be the name of a column"),
        ("{{x}}", "names no column"),
    ],
)
def test_anything_else_is_an_error_that_shows_what_is_allowed(typed: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        parse_part(typed)
    assert f"--content {typed!r}" in raised.value.message


CONTENT = tuple(map(parse_part, ("{title}: {body}", "image:photo", "text:note", "image:more")))


@pytest.mark.parametrize(
    ("texts", "media", "parts"),
    [
        pytest.param(
            {"title": "a", "body": "b", "note": "c"},
            {"photo": b"1", "more": ["x", "y"]},
            ("a: b", ("photo", b"1"), "c", ("more", ["x", "y"])),
            id="all",
        ),
        pytest.param({"title": "a"}, {"photo": None}, ("a: ",), id="nulls"),
        pytest.param({"title": " ", "note": ""}, {"more": "p"}, (("more", "p"),), id="blank texts"),
        pytest.param({}, {}, (), id="nothing"),
    ],
)
def test_null_parts_are_left_out_and_the_others_keep_their_order(
    texts: dict[str, str | None], media: dict[str, Any], parts: tuple[object, ...]
) -> None:
    found = PartReader(CONTENT).parts({"title": None, "body": None, "note": None} | texts, media)
    plain = tuple((one.column, one.value) if isinstance(one, MediaValue) else one for one in found)
    assert plain == parts


def test_the_columns_of_a_content_are_read_once_each() -> None:
    columns = InputColumns(text_column=None, content=(*CONTENT, parse_part("image:photo")))
    assert columns.text_fields == ("title", "body", "note")
    assert columns.media_columns == ("photo", "more")
    recipe = TextRecipe.of(columns)
    assert recipe.columns == ("title", "body", "note")
    assert recipe.text({"title": "a", "body": "b", "note": "c"}) == "a: b\n\nc"
    alone = InputColumns(text_column=None, content=(parse_part("image:photo"),))
    assert TextRecipe.of(alone).columns == ()


def test_a_content_stands_alone() -> None:
    content = (parse_part("image:photo"),)
    with pytest.raises(ConfigError, match="use --content, --text-column or --text-template"):
        InputColumns(content=content)
    with pytest.raises(ConfigError, match="--title-column cannot be combined with --content"):
        InputColumns(text_column=None, content=content, title_column="title")
    with pytest.raises(ConfigError, match="the output has its own columns"):
        InputColumns(text_column=None, content=content, keep_columns=("media",))
    assert InputColumns(keep_columns=("media",)).keep_columns == ("media",)


def test_saved_scans_of_texts_have_the_words_of_earlier_versions() -> None:
    assert "content" not in repr(InputColumns())


@pytest.mark.parametrize(
    ("settings", "part", "words"),
    [
        (MediaSettings(document_ocr=True), "pdf:a", "--document-ocr needs pdf:COLUMN"),
        (MediaSettings(audio_track=True), "video:a", "--audio-track needs video:COLUMN"),
    ],
)
def test_a_switch_needs_a_part_of_its_kind(settings: MediaSettings, part: str, words: str) -> None:
    image = parse_part("image:photo")
    check_switches([image, parse_part(part)], settings)
    check_switches([image], MediaSettings())
    with pytest.raises(ConfigError, match=words):
        check_switches([image], settings)
