"""Elements of every kind give their texts, and take their vectors."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.ml.rag.embeddings.base import create_text_adapter
from apache_beam.ml.rag.types import Content, EmbeddableItem
from apache_beam.ml.transforms.base import EmbeddingTypeAdapter
from apache_beam.typehints import typehints
from apache_beam.typehints.row_type import RowTypeConstraint
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.schemas.content_parts import ContentPart
from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.media import MediaKind
from bulkembed.transforms.adapter_form import AdapterForm, content_of, item_adapter
from bulkembed.transforms.core.vectors import Vector
from bulkembed.transforms.elements import RowForm, rows_of
from bulkembed.transforms.inputs.row_parts import MediaValue
from bulkembed.transforms.units.distinct_contents import RowFailure
from bulkembed.transforms.units.row_texts import RowText

IMAGE = MediaKind.IMAGE
FORM = RowForm(InputColumns(None, "text"))
VECTOR: Vector = np.array([0.25, 0.5], np.float32)
REJECTED = RowFailure(DeadCode.REJECTED, "no", 400, 1)


class Doc(NamedTuple):
    id: int
    text: str | None


class DocWithVector(NamedTuple):
    text: str
    vector: Sequence[float] = ()


ONE_ROW = [
    pytest.param(beam.Row(id=1, text="a"), beam.Row(id=1, text="a", vector=[0.25, 0.5]), id="row"),
    pytest.param(Doc(1, "a"), beam.Row(id=1, text="a", vector=[0.25, 0.5]), id="named-tuple"),
    pytest.param(DocWithVector("a"), DocWithVector("a", [0.25, 0.5]), id="with-the-field"),
    pytest.param({"text": "a"}, {"text": "a", "vector": [0.25, 0.5]}, id="dict"),
    pytest.param({"text": "a", "vector": 1}, {"text": "a", "vector": [0.25, 0.5]}, id="replaced"),
]


@pytest.mark.parametrize(("element", "expected"), ONE_ROW)
def test_a_row_gets_its_vector_in_a_copy_of_the_same_type(element: Any, expected: Any) -> None:
    before = repr(element)
    assert FORM.texts(element) == [RowText(None, "a")]
    out, letters = FORM.fill(element, [VECTOR])
    assert (out, letters) == (expected, [])
    assert type(out) is type(expected)
    assert repr(element) == before
    assert rows_of(element) == 1


@pytest.mark.parametrize("kind", [pa.RecordBatch, pa.Table])
def test_an_arrow_batch_keeps_its_good_rows_and_each_bad_row_is_a_dead_letter(kind: Any) -> None:
    element = kind.from_pydict({"id": [1, 2, 3], "text": ["a", None, "c"]})
    assert [row.text for row in FORM.texts(element)] == ["a", None, "c"]
    out, (letter,) = FORM.fill(element, [VECTOR, REJECTED, 2 * VECTOR])
    assert isinstance(out, kind)
    assert out.schema.field("vector").type == pa.list_(pa.float32(), 2)
    assert out.column("id").to_pylist() == [1, 3]
    assert out.column("vector").to_pylist() == [[0.25, 0.5], [0.5, 1.0]]
    assert letter.element.to_pylist() == [{"id": 2, "text": None}]
    assert (letter.code, letter.http_status, letter.attempts) == ("refused", 400, 1)
    assert rows_of(element) == 3


def test_an_arrow_batch_without_a_good_row_is_not_emitted() -> None:
    out, letters = FORM.fill(pa.table({"text": [""]}), [REJECTED])
    assert out is None
    assert len(letters) == 1


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_each_row_of_a_batch_is_emitted_once(good: list[bool]) -> None:
    table = pa.table({"id": range(len(good)), "text": ["x"] * len(good)})
    results = [np.full(2, row, np.float32) if fine else REJECTED for row, fine in enumerate(good)]
    out, letters = FORM.fill(table, results)
    kept = [] if out is None else out.to_pylist()
    assert [row["vector"][0] for row in kept] == [row["id"] for row in kept]
    lost = [letter.element["id"][0].as_py() for letter in letters]
    assert sorted([row["id"] for row in kept] + lost) == list(range(len(good)))


BAD = [
    pytest.param({"text": 7}, "'text' is an integer 7", id="no-string"),
    pytest.param({"text": "\ud800"}, "lone surrogate", id="surrogate"),
    pytest.param({"body": "a"}, "no field 'text'. It has 'body'", id="no-field"),
    pytest.param({}, "It has none", id="no-fields"),
    pytest.param("a", "str is not a row. Elements must be beam.Rows", id="no-row"),
    pytest.param(pa.table({"body": ["a"]}), "no field 'text'. It has 'body'", id="no-column"),
    pytest.param(
        pa.table({"text": pa.array([b"\xff"]).cast(pa.binary()).view(pa.string())}),
        "'text' is bytes",
        id="no-utf8",
    ),
]


@pytest.mark.parametrize(("element", "words"), BAD)
def test_a_text_that_cannot_be_sent_says_why(element: Any, words: str) -> None:
    (row,) = FORM.texts(element)
    assert row.bad is not None
    assert row.bad[0] is DeadCode.BAD_TEXT
    assert words in row.bad[1]


def test_a_template_and_a_title_are_read_from_their_fields() -> None:
    form = RowForm(InputColumns(None, None, "{head}: {body}", "head"))
    assert form.texts({"head": "H", "body": "B"}) == [RowText("H", "H: B")]
    assert form.texts(pa.table({"head": ["H"], "body": ["B"]})) == [RowText("H", "H: B")]


def test_the_output_type_of_rows_with_a_schema_has_the_vector_field() -> None:
    rows = RowTypeConstraint.from_fields([("id", int), ("text", str)])
    out = RowTypeConstraint.from_fields([("id", int), ("text", str), ("vector", Sequence[float])])
    assert FORM.output_type(rows) == out
    assert FORM.output_type(Doc) == RowTypeConstraint.from_fields(
        [("id", int), ("text", str | None), ("vector", Sequence[float])]
    )
    for other in (Any, pa.Table, DocWithVector):
        assert FORM.output_type(other) == other


def test_a_vector_field_of_another_type_is_replaced_in_a_row_and_rejected_in_a_named_tuple() -> (
    None
):
    rows = RowTypeConstraint.from_fields([("text", str), ("vector", str)])
    out = RowTypeConstraint.from_fields([("text", str), ("vector", Sequence[float])])
    assert FORM.output_type(rows) == out

    class OwnVector(NamedTuple):
        text: str
        vector: str

    with pytest.raises(
        ConfigError, match=r"'vector' of OwnVector.*Declare it as Sequence\[float\]"
    ):
        FORM.output_type(OwnVector)


@pytest.mark.parametrize("field", [list[float], Sequence[np.float32] | None, list[Any]])
def test_a_named_tuple_may_declare_its_vector_in_several_ways(field: Any) -> None:
    fields = [("text", str), ("vector", field)]
    kind: Any = NamedTuple("OwnVector", fields)
    assert FORM.output_type(kind) is kind


@pytest.mark.parametrize("kind", [dict, dict[str, str], typehints.Dict[str, str]])
def test_the_output_type_of_a_dict_of_strings_allows_any_value(kind: Any) -> None:
    assert FORM.output_type(kind) == dict[str, Any]


def test_a_missing_field_is_an_error_before_the_pipeline_runs() -> None:
    rows = RowTypeConstraint.from_fields([("id", int), ("body", str)])
    with pytest.raises(ConfigError, match=r"no field 'text'. They have 'id', 'body'"):
        FORM.output_type(rows)


def test_an_adapter_fills_a_copy() -> None:
    form = AdapterForm(create_text_adapter())
    item = EmbeddableItem.from_text("a", id="one")
    assert form.texts(item) == [RowText(None, "a", None, ("a",))]
    out, letters = form.fill(item, [VECTOR])
    assert (out.id, out.dense_embedding, letters) == ("one", [0.25, 0.5], [])
    assert item.embedding is None


def test_an_element_that_an_adapter_cannot_read_fails_with_the_adapters_message() -> None:
    form = AdapterForm(create_text_adapter())
    image = EmbeddableItem.from_image("a.png", id="one")
    (text,) = form.texts(image)
    bad = text.bad
    assert bad is not None
    assert "Expected text content" in bad[1]
    out, (letter,) = form.fill(image, [RowFailure(*bad)])
    assert out is None
    assert letter.element is image


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        pytest.param("a", ("a",), id="text"),
        pytest.param("", (), id="empty"),
        pytest.param([" ", None], (), id="blank"),
        pytest.param(b"x", (MediaValue(IMAGE, "image", b"x"),), id="bytes"),
        pytest.param({"path": "a"}, (MediaValue(IMAGE, "image", {"path": "a"}),), id="struct"),
        pytest.param(("a", b"x", "b"), ("a", MediaValue(IMAGE, "image", b"x"), "b"), id="several"),
    ],
)
def test_the_parts_of_a_content_follow_from_the_types_of_its_values(
    value: Any, parts: tuple[Any, ...]
) -> None:
    row = content_of(value)
    assert (row.bad, row.parts) == (None, parts)


@pytest.mark.parametrize("value", [7, {"a": 1}, ["a", 1.5]], ids=str)
def test_what_is_neither_a_text_nor_an_image_is_bad(value: object) -> None:
    row = content_of(value)
    assert row.bad is not None
    assert row.bad[0] is DeadCode.BAD_TEXT


def test_bytes_in_a_column_of_texts_are_never_taken_for_an_image() -> None:
    manager = EmbeddingTypeAdapter(lambda rows: [one["a"] for one in rows], lambda rows, _: rows)
    (row,) = AdapterForm(manager, (ContentPart(None, "a"),)).texts({"a": b"x"})
    assert row.bad is not None
    assert row.bad[0] is DeadCode.BAD_TEXT


def test_an_item_of_ml_rag_without_text_and_image_is_bad() -> None:
    (row,) = AdapterForm(item_adapter()).texts(EmbeddableItem(Content(), id="one"))
    assert row.bad == (DeadCode.BAD_TEXT, "EmbeddableItem one has neither a text nor an image")


def test_a_template_writes_fields_of_a_row_as_json_does() -> None:
    form = RowForm(InputColumns(None, None, "{name} ({year})"))
    for value, written in (
        (1999, "1999"), (np.int64(7), "7"), (1.5, "1.5"), (True, "true"), (None, ""),
        (dt.date(2024, 1, 31), "2024-01-31"), (["a", np.float32(0.5)], '["a", 0.5]'), (b"x", "x"),
    ):  # fmt: skip
        assert form.texts({"name": "a", "year": value}) == [RowText(None, f"a ({written})")]
        assert form.texts(beam.Row(name="a", year=value)) == [RowText(None, f"a ({written})")]
    table = pa.table({"name": ["a", "b"], "year": [1999, None]})
    assert form.texts(table) == [RowText(None, "a (1999)"), RowText(None, "b ()")]
    for value in (object(), b"\xff"):
        (row,) = form.texts({"name": "a", "year": value})
        assert row.bad is not None
        assert row.bad[0] is DeadCode.BAD_TEXT


@pytest.mark.parametrize(
    "element",
    [
        pytest.param({"doc": {"body": "a", "title": "T"}}, id="dict"),
        pytest.param(beam.Row(doc=beam.Row(body="a", title="T")), id="row"),
        pytest.param(pa.table({"doc": [{"body": "a", "title": "T"}]}), id="arrow"),
    ],
)
def test_nested_fields_are_read_by_path(element: Any) -> None:
    form = RowForm(InputColumns(None, "doc.body", None, "doc.title"))
    assert form.texts(element) == [RowText("T", "a")]
    other = RowForm(InputColumns(None, "doc.other"))
    (row,) = other.texts(element)
    assert row.bad is not None
    assert "no field 'doc.other'" in row.bad[1]


def test_the_output_type_of_rows_with_nested_fields() -> None:
    form = RowForm(InputColumns(None, "doc.body"))
    kind = RowTypeConstraint.from_fields([("doc", dict[str, str])])
    assert form.output_type(kind).get_type_for("vector") == Sequence[float]
    with pytest.raises(ConfigError, match=r"no field 'doc\.body'"):
        form.output_type(RowTypeConstraint.from_fields([("id", int)]))
