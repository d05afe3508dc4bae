from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_job, prepared

from schemas.deadletters import DeadCode
from schemas.embedding import BlankText, EmbeddingConfig
from schemas.errors import InputError
from transforms.core.hashing import text_hash
from transforms.core.packing import json_bytes

TEXT = st.sampled_from([None, "", " \n\u3000", "a", "b", "c", "a ", "\x00", "\u200f\u0627"])


@given(st.lists(TEXT, max_size=30))
def test_every_row_is_dead_or_has_its_text_and_each_text_is_sent_once(
    texts: list[str | None],
) -> None:
    unit = prepared(texts)
    dead = {row.offset for row in unit.dead}
    sent = [item.text for item in unit.items]
    assert len(set(sent)) == len(sent)
    for offset, text in enumerate(texts):
        passages = unit.passages[offset]
        assert (not passages) is (offset in dead) is (text is None or not text.strip())
        assert [sent[one.item][one.start : one.end] for one in passages] == [text][: len(passages)]
    assert list(unit.hashes) == [text_hash(item.title, item.text) for item in unit.items]


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "the text is null"), ("", "the text is empty"), ("\t \n", "white space only")],
)
def test_a_blank_text_is_a_dead_letter_that_says_what_it_is(text: str | None, words: str) -> None:
    (row,) = prepared(["a", text]).dead
    assert (row.offset, row.code, row.attempts) == (1, DeadCode.BLANK_TEXT, 0)
    assert words in row.message


def test_a_blank_text_may_stop_the_run_and_is_named_by_file_and_row() -> None:
    job = a_job(blank_text=BlankText.STOP)
    with pytest.raises(InputError, match=r"row 101 of a\.parquet: the text is empty"):
        prepared(["a", ""], job, first_row=100)


def test_a_row_that_could_not_be_read_keeps_its_own_reason() -> None:
    job = a_job(blank_text=BlankText.STOP)
    (row,) = prepared(["a", None], job, bad={1: (DeadCode.BAD_JSON, "line 2: no JSON")}).dead
    assert (row.code, row.message) == (DeadCode.BAD_JSON, "line 2: no JSON")


def test_equal_texts_under_different_titles_are_different_texts() -> None:
    unit = prepared(["x", "x", "x"], titles=["A", "B", "A"])
    assert [(item.title, item.text) for item in unit.items] == [("A", "x"), ("B", "x")]
    assert [passage.item for (passage,) in unit.passages] == [0, 1, 0]


def test_texts_are_hashed_and_measured_as_they_are_sent() -> None:
    embedding = EmbeddingConfig(service="developer", model="gemini-embedding-2", has_titles=True)
    unit = prepared(["x"], a_job(embedding=embedding), titles=["T"])
    (item,) = unit.items
    assert (item.title, item.text) == (None, "title: T | text: x")
    assert unit.hashes == (text_hash(None, "title: T | text: x"),)
    assert item.body_bytes == json_bytes(item.text)


def test_a_long_text_is_never_estimated_above_what_the_model_takes() -> None:
    (item,) = prepared(["word " * 100_000]).items
    assert item.tokens == 2048
