from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import KEY, a_job, a_run, prepared, sent_texts

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import BlankText, EmbeddingConfig, LongText
from bulkembed.schemas.errors import InputError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import Unit
from bulkembed.transforms.core.content import json_bytes
from bulkembed.transforms.core.hashing import text_hash
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.units.prepare import prepare

TEXT = st.sampled_from([None, "", " \n\u3000", "a", "b", "c", "a ", "\x00", "\u200f\u0627"])


@given(st.lists(TEXT, max_size=30))
def test_every_row_fails_or_has_its_text_and_each_text_is_sent_once(
    texts: list[str | None],
) -> None:
    unit = prepared(texts)
    dead = set(unit.failed)
    sent = [item.text for item in sent_texts(unit)]
    assert len(set(sent)) == len(sent)
    for offset, text in enumerate(texts):
        passages = unit.passages[offset]
        assert (not passages) is (offset in dead) is (text is None or not text.strip())
        assert [sent[one.item][one.start : one.end] for one in passages] == [text][: len(passages)]
    assert [item.hash for item in sent_texts(unit)] == [
        text_hash(item.title, item.text) for item in sent_texts(unit)
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "the text is null"), ("", "the text is empty"), ("\t \n", "white space only")],
)
def test_a_blank_text_is_a_dead_letter_whose_message_says_why(text: str | None, words: str) -> None:
    ((offset, row),) = prepared(["a", text]).failed.items()
    assert (offset, row.code, row.attempts) == (1, DeadCode.BLANK_TEXT, 0)
    assert words in row.message


def test_a_blank_text_can_stop_the_run_with_its_file_and_row() -> None:
    job = a_job(blank_text=BlankText.STOP)
    with pytest.raises(InputError, match=r"row 101 of a\.parquet: the text is empty"):
        prepared(["a", ""], job, first_row=100)


def test_a_row_that_could_not_be_read_keeps_its_own_reason() -> None:
    job = a_job(blank_text=BlankText.STOP)
    (row,) = prepared(
        ["a", None], job, bad={1: (DeadCode.BAD_JSON, "line 2: no JSON")}
    ).failed.values()
    assert (row.code, row.message) == (DeadCode.BAD_JSON, "line 2: no JSON")


def test_equal_texts_under_different_titles_are_different_texts() -> None:
    unit = prepared(["x", "x", "x"], titles=["A", "B", "A"])
    assert [(item.title, item.text) for item in sent_texts(unit)] == [("A", "x"), ("B", "x")]
    assert [passage.item for (passage,) in unit.passages] == [0, 1, 0]


def test_texts_are_hashed_and_measured_as_they_are_sent() -> None:
    embedding = EmbeddingConfig(service="developer", model="gemini-embedding-2", has_titles=True)
    unit = prepared(["x"], a_job(embedding=embedding), titles=["T"])
    (item,) = sent_texts(unit)
    assert (item.title, item.text) == (None, "title: T | text: x")
    assert item.hash == text_hash(None, "title: T | text: x")
    assert item.body_bytes == json_bytes(item.text)


def test_the_estimate_for_a_long_text_never_exceeds_the_limit_of_the_model() -> None:
    (item,) = prepared(["word " * 100_000]).items
    assert item.tokens == 2048


SENTENCE = "Sentence {} fills a passage of sixteen tokens, alone."


def cutting(**changes: Any) -> JobConfig:
    embedding = EmbeddingConfig(
        service="developer", model="gemini-embedding-001", long_text=LongText.PASSAGES,
        passage_tokens=16, passage_overlap=0, **changes,
    )  # fmt: skip
    return a_job(embedding=embedding)


def test_each_passage_is_sent_with_its_title_and_equal_ones_once() -> None:
    text = "\n\n".join(SENTENCE.format(letter) for letter in "aba")
    unit = prepared([text, SENTENCE.format("b")], cutting(has_titles=True), titles=["T", "T"])
    assert [(item.title, item.text) for item in sent_texts(unit)] == [
        ("T", SENTENCE.format("a")), ("T", SENTENCE.format("b")),
    ]  # fmt: skip
    assert [[one.item for one in row] for row in unit.passages] == [[0, 1, 0], [1]]
    assert unit.passages[1][0][1:] == (0, len(SENTENCE.format("b")))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 12))
def test_a_unit_with_many_passages_is_split_and_has_each_row_once(
    sizes: list[int], most: int
) -> None:
    texts = [
        "\n\n".join(SENTENCE.format(f"{n}.{m}") for m in range(k)) for n, k in enumerate(sizes)
    ]
    run, rows, parts = a_run(texts, first_row=100), 0, []
    while run.rows:
        unit = Unit(KEY, run.first_row, run.rows)
        part = prepare(run, unit, "a.parquet", cutting(), TokenEstimator(2048), max_texts=most)
        assert part.unit.first_row == 100 + rows
        assert part.rows.ids.to_pylist() == list(range(100 + rows, 100 + rows + part.unit.rows))
        assert part.unit.rows == len(part.passages) == part.rows.rows > 0
        assert sum(map(len, part.passages[:-1])) < most
        parts.append(part)
        rows += part.unit.rows
        run = run.part(part.unit.rows, run.rows)
    assert rows == len(texts)
    assert [len(row) for part in parts for row in part.passages] == sizes


def test_a_unit_whose_texts_are_not_cut_stays_whole() -> None:
    run = a_run([f"text {n}" for n in range(9)])
    part = prepare(run, Unit(KEY, 0, 9), "a", a_job(), TokenEstimator(2048), max_texts=4)
    assert part.unit.rows == 9
