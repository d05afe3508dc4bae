from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulkembed.schemas.embedding import EmbeddingConfig, LongText
from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.core.content import as_sent
from bulkembed.transforms.core.passages import WINDOW, passage_spans, split_text
from bulkembed.transforms.core.tokens import utf8_bytes

FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
PIECES = st.sampled_from(
    ["word", "Satz. ", "Ende! ", "\n", "\n\n", "\r\n\r\n", " ", "   ", "\t", "\x1c", "漢字", "한글",
     "ü", "هذا نص.", "e\u0301", FAMILY, "\u200f", "x" * 70, " " * 90, "\u3000", "1,000", "\x00"]
)  # fmt: skip
TEXT = st.lists(PIECES, max_size=60).map("".join)


@given(TEXT, st.integers(32, 120), st.data())
def test_only_white_space_is_outside_the_passages_and_none_is_too_long(
    text: str, max_bytes: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, max_bytes // 2 - 1))
    found = list(split_text(text, max_bytes, overlap))
    held = [False] * len(text)
    for start, end in found:
        assert 0 <= start < end <= len(text)
        assert utf8_bytes(text[start:end]) <= max_bytes
        assert text[start:end].strip()
        held[start:end] = [True] * (end - start)
    assert not "".join(itertools.compress(text, [not one for one in held])).strip()
    for (start, end), (following, further) in itertools.pairwise(found):
        assert start < following
        assert end < further
        assert utf8_bytes(text[following:end]) <= overlap


def config(**changes: Any) -> EmbeddingConfig:
    facts = {"service": "developer", "model": "gemini-embedding-001"}
    return EmbeddingConfig(**{**facts, "long_text": LongText.PASSAGES, **changes})


@given(TEXT, st.sampled_from([None, "", "T", "A title of some words", "長" * 40]))
@example("a" * 4000, "t" * 9000)
def test_a_passage_with_title_and_prefix_has_at_most_four_bytes_per_token(
    text: str, title: str | None
) -> None:
    for model in ("gemini-embedding-001", "gemini-embedding-2"):
        made = config(model=model, has_titles=True, passage_tokens=32)
        found = passage_spans(made, title, text)
        for start, end in found:
            sent = as_sent(made, title, text[start:end])
            beside = utf8_bytes("".join(filter(None, as_sent(made, title, ""))))
            max_bytes = 128 if beside <= 64 else 64 + beside
            assert utf8_bytes("".join(filter(None, sent))) <= max_bytes or found == [(0, len(text))]
            if len(found) > 1:  # Sent by itself, as for another unit, it is not cut again.
                assert passage_spans(made, title, text[start:end]) == [(0, end - start)]


@pytest.mark.parametrize("long_text", [LongText.PASSAGES, LongText.MEAN])
@pytest.mark.parametrize(
    "text", ["short", "  white space around it stays \n", "x" * 2048, "漢" * 682]
)
def test_a_text_that_fits_is_one_passage(text: str, long_text: LongText) -> None:
    assert passage_spans(config(long_text=long_text), None, text) == [(0, len(text))]


def test_other_policies_cut_nothing() -> None:
    assert passage_spans(config(long_text=LongText.TRUNCATE), None, "x " * 9000) == [(0, 18_000)]


def test_a_text_is_cut_at_paragraphs_then_sentences_then_words() -> None:
    paragraph = "One sentence stands here. Another one stands here.\n\n"
    found = [text_of(paragraph * 3, span) for span in split_text(paragraph * 3, 60, 0)]
    assert found == [paragraph.strip()] * 3
    found = [text_of(paragraph, span) for span in split_text(paragraph, 32, 0)]
    assert found == ["One sentence stands here.", "Another one stands here."]
    found = [text_of("word " * 20, span) for span in split_text("word " * 20, 33, 0)]
    assert set(found[:-1]) == {"word word word word word word"}


def text_of(text: str, span: tuple[int, int]) -> str:
    return text[span[0] : span[1]]


@given(st.integers(0, 40), st.integers(0, 40))
def test_windows_do_not_change_passages_that_are_alike(before: int, after: int) -> None:
    line = "A sentence of thirty letters.\n\n"
    text = line * (before + after + 1)
    assert [text_of(text, span) for span in split_text(text, 32, 0)] == [line.strip()] * (
        before + after + 1
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a" * 2_000_000, id="one-word"),
        pytest.param("word " * 400_000, id="no-sentence-ends"),
        pytest.param("漢字。" * 250_000, id="chinese"),
        pytest.param("x = 1\n" * 300_000, id="lines"),
        pytest.param("word" + " " * 2_000_000 + "end", id="spaces"),
        pytest.param(FAMILY * 80_000, id="families"),
    ],
)
def test_the_splitter_is_fast_for_every_kind_of_text(text: str) -> None:
    started = time.process_time()
    assert len(list(split_text(text, 2048, 256))) > 1
    assert utf8_bytes(text) / (time.process_time() - started) > 1e6
    assert len(text) > WINDOW * 2048


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"passage_tokens": 15}, "--passage-tokens 15: use 16 or more"),
        (
            {"passage_tokens": 2049},
            "--passage-tokens 2049: gemini-embedding-001 accepts at",
        ),
        ({"passage_tokens": 64, "passage_overlap": 32}, "--passage-overlap 32: use 0 to 31"),
        ({"passage_overlap": -1}, "--passage-overlap -1: use 0 to 255"),
        ({"passage_tokens": 64, "long_text": LongText.TRUNCATE}, "work with --long-text passages"),
        ({"passage_overlap": 1, "long_text": LongText.STOP}, "work with --long-text passages"),
        ({"normalize": False, "long_text": LongText.MEAN}, "Remove --no-normalize"),
    ],
)
def test_invalid_sizes_are_errors(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        config(**settings)


def test_sizes_are_part_of_the_embedding_digest() -> None:
    plain = config()
    assert plain.digest == config(passage_tokens=512, passage_overlap=64).digest
    assert plain.digest != config(passage_tokens=256).digest
    assert plain.digest != config(passage_overlap=0).digest
    assert EmbeddingConfig.from_facts(plain.facts()).digest == plain.digest
    assert config(long_text=LongText.MEAN).facts()["passage_tokens"] == 512
    two = config(long_text=LongText.MEAN, model="gemini-embedding-2")
    assert two.facts()["passage_tokens"] == 2048
    assert "passage_tokens" not in config(long_text=LongText.TRUNCATE).facts()
