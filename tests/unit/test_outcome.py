from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_job, prepared, sent_texts

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import EmbeddingConfig, LongText
from bulkembed.schemas.errors import CallRejected
from bulkembed.schemas.job import JobConfig, OutputConfig, VectorType
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.content import TextContent
from bulkembed.transforms.core.hashing import text_hash
from bulkembed.transforms.units.outcome import UnitOutcome
from bulkembed.transforms.units.prepare import PreparedUnit
from bulkembed.transforms.units.tally import FailureLimit

DIM = 2


def vector(item: TextContent) -> list[float]:
    return [1.0, float(item.index)]


def answer(items: list[TextContent], **more: Any) -> Answer:
    return Answer(np.array([vector(item) for item in items], np.float32), **more)


def job(**changes: Any) -> JobConfig:
    embedding = EmbeddingConfig(
        service="developer", model="text-embedding-004", dim=DIM, **changes.pop("embedding", {})
    )
    return a_job(embedding=embedding, **changes)


def outcome(texts: list[str | None], **changes: Any) -> tuple[UnitOutcome, PreparedUnit]:
    made = job(**changes)
    unit = prepared(texts, made, first_row=100)
    return UnitOutcome(unit, made), unit


TEXTS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", "e", "f", None]), st.just(None)), max_size=20
).map(lambda rows: [text for text, _ in rows])


@given(TEXTS, st.data())
def test_the_first_rows_that_are_all_finished_are_committed(
    texts: list[str | None], data: st.DataObject
) -> None:
    found, unit = outcome(texts)
    results: dict[str, str] = {}
    for item in data.draw(st.permutations(sent_texts(unit))):
        result = data.draw(st.sampled_from(["vector", "dead", "missing"]))
        results[item.text] = result
        if result == "vector":
            found.embedded([item], answer([item]), 1)
        elif result == "dead":
            found.dead(item, DeadCode.REJECTED, CallRejected("no", http_status=400), 2)
    rows = 0
    for text in texts:
        if text is not None and results[text] == "missing":
            break
        rows += 1
    finished = found.finish()
    assert (finished is None) is (rows == 0)
    later = [text for text in texts[rows:] if text is not None and results[text] == "vector"]
    assert found.has_other_answers() is bool(later)
    if finished is None:
        return
    record, tables = finished
    result_of = ["skipped" if text is None else results[text] for text in texts[:rows]]
    assert (record.unit.first_row, record.unit.rows) == (100, rows)
    assert (record.embedded, record.dead, record.skipped) == tuple(
        result_of.count(result) for result in ("vector", "dead", "skipped")
    )
    offsets = {
        result: [100 + n for n, one in enumerate(result_of) if one == result]
        for result in result_of
    }
    written = tables.vectors["source_row"].to_pylist() if tables.vectors is not None else []
    assert written == offsets.get("vector", [])
    dead = tables.dead_letters["source_row"].to_pylist() if tables.dead_letters is not None else []
    assert dead == sorted(offsets.get("dead", []) + offsets.get("skipped", []))


SENTENCE = "Sentence {} fills a passage of sixteen tokens, alone."
CUTTING = {"passage_tokens": 16, "passage_overlap": 0}


def paragraphs(letters: str) -> str:
    return "\n\n".join(SENTENCE.format(letter) for letter in letters)


@pytest.mark.parametrize("long_text", [LongText.PASSAGES, LongText.MEAN])
@given(st.lists(st.text("abcdefg", min_size=1, max_size=4), max_size=12), st.data())
def test_a_row_is_written_with_all_of_its_passages_or_not_at_all(
    long_text: LongText, rows: list[str], data: st.DataObject
) -> None:
    texts: list[str | None] = [paragraphs(row) for row in rows]
    found, unit = outcome(texts, embedding={"long_text": long_text, **CUTTING})
    assert {item.text for item in sent_texts(unit)} == {
        SENTENCE.format(c) for row in rows for c in row
    }
    results: dict[str, str] = {}
    for item in data.draw(st.permutations(sent_texts(unit))):
        result = data.draw(st.sampled_from(["vector", "vector", "dead", "missing"]))
        results[item.text[9]] = result
        if result == "vector":
            found.embedded([item], answer([item]), 1)
        elif result == "dead":
            found.dead(item, DeadCode.REJECTED, CallRejected("no", http_status=400), 2)
    result_of = [
        next((one for one in ("dead", "missing") if one in {results[c] for c in row}), "vector")
        for row in rows
    ]
    done = result_of.index("missing") if "missing" in result_of else len(rows)
    finished = found.finish()
    assert (finished is None) is (done == 0)
    if finished is None:
        return
    record, tables = finished
    kept = [row for row in range(done) if result_of[row] == "vector"]
    assert (record.unit.rows, record.embedded, record.dead) == (done, len(kept), done - len(kept))
    assert found.live().ready >= done
    if tables.dead_letters is not None:
        assert [row - 100 for row in tables.dead_letters["source_row"].to_pylist()] == [
            row for row in range(done) if result_of[row] == "dead"
        ]
    written = tables.vectors.to_pylist() if tables.vectors is not None else []
    assert record.vectors == len(written)
    by_text = {item.text: np.array(vector(item)) for item in sent_texts(unit)}
    by_text = {text: one / np.linalg.norm(one) for text, one in by_text.items()}
    if long_text is LongText.PASSAGES:
        assert [(one["id"] - 100, one["passage"]) for one in written] == [
            (row, number) for row in kept for number in range(len(rows[row]))
        ]
        for one in written:
            text = (texts[one["source_row"] - 100] or "")[one["start"] : one["end"]]
            assert one["vector"] == pytest.approx(by_text[text], abs=1e-6)
            assert one["text_hash"] == text_hash(None, text)
    else:
        assert [one["id"] - 100 for one in written] == kept
        for one in written:
            row = one["id"] - 100
            mean = np.mean([by_text[SENTENCE.format(c)] for c in rows[row]], axis=0)
            assert one["vector"] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
            assert one["text_hash"] == text_hash(None, texts[row] or "")


def test_a_rejected_passage_fails_its_row_and_the_message_says_which() -> None:
    stop = StopFlag()
    made = job(embedding={"long_text": LongText.PASSAGES, **CUTTING})
    unit = prepared([paragraphs("ab"), paragraphs("cb"), SENTENCE.format("b")], made)
    found = UnitOutcome(unit, made, None, FailureLimit(3, stop))
    a, b, c = unit.items
    for item in (b, a, c):
        found.dead(item, DeadCode.REJECTED, CallRejected("no"), 1)
    assert stop.stop is None  # Three rows failed, each counted once.
    finished = found.finish()
    assert finished is not None
    assert finished[1].vectors is None
    assert finished[1].dead_letters is not None
    assert finished[1].dead_letters["message"].to_pylist() == [
        "passage 1, characters 54 to 106: no", "passage 1, characters 54 to 106: no", "no",
    ]  # fmt: skip


def test_a_row_whose_passages_cancel_each_other_out_fails() -> None:
    stop = StopFlag()
    made = job(embedding={"long_text": LongText.MEAN, **CUTTING})
    unit = prepared([paragraphs("ab"), paragraphs("ac")], made)
    found = UnitOutcome(unit, made, None, FailureLimit(0, stop))
    found.embedded(unit.items, Answer(np.array([[1, 0], [-1, 0], [0, 1]], np.float32)), 1)
    finished = found.finish()
    assert finished is not None
    record, tables = finished
    assert record.codes == ((DeadCode.NO_MEAN, 1),)
    assert tables.vectors is not None
    assert tables.vectors["id"].to_pylist() == [1]
    assert tables.vectors["truncated"].to_pylist() == [False]
    assert stop.stop is not None
    assert "no_mean" in stop.stop.message


@pytest.mark.parametrize(
    ("flags", "expected"),
    [((False, False), False), ((False, None), None), ((None, True), True)],
)
def test_a_mean_is_truncated_if_any_of_its_passages_was_cut(
    flags: tuple[bool | None, bool | None], expected: bool | None
) -> None:
    sizes = {"long_text": LongText.MEAN, "passage_tokens": 2048}
    found, unit = outcome(["word " * 3000], embedding=sizes)
    found.embedded(unit.items, answer(list(unit.items), truncated=flags), 1)
    finished = found.finish()
    assert finished is not None
    assert finished[1].vectors is not None
    assert finished[1].vectors["truncated"].to_pylist() == [expected]


def test_rows_with_equal_texts_share_the_vector_or_the_failure() -> None:
    found, unit = outcome(["x", "y", "x", "z", "y"])
    x, y, z = unit.items
    found.embedded([z, x], answer([z, x]), 1)
    found.dead(y, DeadCode.REJECTED, CallRejected("no", http_status=400), 3)
    finished = found.finish()
    assert finished is not None
    record, tables = finished
    assert tables.vectors is not None
    assert tables.dead_letters is not None
    assert tables.vectors["id"].to_pylist() == [100, 102, 103]
    assert record.counts.repeated == 1
    assert record.codes == ((DeadCode.REJECTED, 2),)
    assert tables.dead_letters.select(["id", "message", "http_status", "attempts"]).to_pylist() == [
        {"id": row, "message": "no", "http_status": 400, "attempts": 3} for row in (101, 104)
    ]


def test_vectors_have_unit_length_unless_normalization_is_off() -> None:
    raw = np.array([[3.0, 4.0]], np.float32)
    for normalize, expected in ((True, [0.6, 0.8]), (False, [3.0, 4.0])):
        found, unit = outcome(["x"], embedding={"normalize": normalize})
        found.embedded(unit.items, Answer(raw), 1)
        finished = found.finish()
        assert finished is not None
        assert finished[1].vectors is not None
        assert finished[1].vectors["vector"][0].as_py() == pytest.approx(expected)


def test_vectors_of_unit_length_are_not_changed() -> None:
    raw = np.array([[0.6, 0.8]], np.float32)
    found, unit = outcome(["x"])
    found.embedded(unit.items, Answer(raw), 1)
    finished = found.finish()
    assert finished is not None
    assert finished[1].vectors is not None
    assert finished[1].vectors["vector"][0].as_py() == raw[0].tolist()


@pytest.mark.parametrize(
    ("text", "flag", "expected"),
    [
        pytest.param("short", None, False, id="surely-whole"),
        pytest.param("x" * 2048, None, False, id="as-many-bytes-as-tokens"),
        pytest.param("x" * 2049, None, None, id="nobody-knows"),
        pytest.param("x" * 9000, True, True, id="the-service-says-cut"),
        pytest.param("x" * 9000, False, False, id="the-service-says-whole"),
    ],
)
def test_truncated_is_null_if_unknown(text: str, flag: bool | None, expected: bool | None) -> None:
    found, unit = outcome([text])
    truncated = None if flag is None else (flag,)
    found.embedded(unit.items, answer(list(unit.items), truncated=truncated), 1)
    finished = found.finish()
    assert finished is not None
    assert finished[1].vectors is not None
    assert finished[1].vectors["truncated"].to_pylist() == [expected]


@pytest.mark.parametrize("kind", VectorType)
def test_the_schema_is_as_documented(kind: VectorType) -> None:
    found, unit = outcome(["x"], output=OutputConfig(uri="out", vector_type=kind))
    found.embedded(unit.items, answer(list(unit.items), tokens=7), 2)
    finished = found.finish()
    assert finished is not None
    record, tables = finished
    assert tables.vectors is not None
    assert tables.vectors.schema.names == [
        "id", "vector", "text_hash", "truncated", "source_file", "source_row",
    ]  # fmt: skip
    number = pa.float16() if kind is VectorType.FLOAT16 else pa.float32()
    kept = tables.vectors.schema.field("vector").type
    assert (kept.value_type, kept.list_size) == (number, DIM)
    assert (record.counts.calls, record.counts.retried, record.counts.tokens) == (1, 1, 7)


def test_a_text_rejected_as_too_long_stops_the_run_with_long_text_stop() -> None:
    made = job(embedding={"long_text": LongText.STOP})
    unit = prepared(["a", "b"], made, first_row=100)
    stop = StopFlag()
    found = UnitOutcome(unit, made, None, FailureLimit(None, stop))
    found.dead(unit.items[1], DeadCode.TOO_LONG, CallRejected("9 tokens"), 1)
    assert stop.stop is not None
    assert stop.stop.message.startswith("row 101 of ")
    assert found.finish() is None
