from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import json
import random
import re
import statistics
import string
import tarfile
import textwrap
import time
import typing
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.tokens import (
    MAX_TOKEN_BYTES,
    NO_FEATURES,
    Features,
    TokenEstimator,
    features,
    readable_part,
    sum_features,
    utf8_bytes,
)

HAN = (
    "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可"
    "里后小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已"
)
MODULES = (ast, inspect, json, random, re, statistics, tarfile, textwrap, typing)


def sources() -> list[str]:
    return [inspect.getsource(module) for module in MODULES]


@functools.cache
def docstrings() -> list[str]:
    nodes = (node for source in sources() for node in ast.walk(ast.parse(source)))
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Module)
    texts = (ast.get_docstring(node) for node in nodes if isinstance(node, kinds))
    return [text for text in texts if text and len(text) > 40]


@functools.cache
def code() -> list[str]:
    lines = [source.splitlines() for source in sources()]
    return ["\n".join(one[at : at + 25]) for one in lines for at in range(0, len(one), 25)]


def chinese() -> list[str]:
    source = random.Random(5)
    return ["".join(source.choices(HAN + "，。", k=source.randint(20, 200))) for _ in range(500)]


def llama_counter() -> Callable[[str], int]:
    tokenizers = pytest.importorskip("tokenizers")
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        pytest.skip("wordllama is not installed")
    folder = Path(spec.origin).parent / "tokenizers"
    made = tokenizers.Tokenizer.from_file(str(folder / "l2_supercat_tokenizer_config.json"))
    made.no_truncation()
    made.no_padding()
    return lambda text: len(made.encode(text, add_special_tokens=False).ids)


def rule_counter() -> Callable[[str], int]:
    piece = re.compile(r"[a-zA-Z]{1,6}|\d|[^\x00-\x7f]|[^\w\s]|\n")
    return lambda text: max(1, len(piece.findall(text)))


CORPORA: dict[str, list[Callable[[], list[str]]]] = {
    "english": [docstrings],
    "code": [code],
    "chinese": [chinese],
}
CORPORA["mixed"] = [docstrings, code, chinese]


@pytest.mark.parametrize("counter", [llama_counter, rule_counter])
@pytest.mark.parametrize("corpus", CORPORA)
def test_after_a_few_calls_estimates_are_within_five_percent(
    counter: Callable[[], Callable[[str], int]], corpus: str
) -> None:
    count, source, estimator = counter(), random.Random(7), TokenEstimator()
    groups = [make() for make in CORPORA[corpus]]
    misses = []
    for _ in range(30):
        texts = [source.choice(source.choice(groups)) for _ in range(50)]
        call, actual = sum_features(map(features, texts)), sum(map(count, texts))
        misses.append(abs(estimator.estimate_call(call) / actual - 1))
        estimator.learn(call, actual)
    assert statistics.mean(misses[5:]) < 0.04
    assert sorted(misses[5:])[-3] < 0.07


def test_a_few_truncated_answers_do_no_harm() -> None:
    estimator, count = TokenEstimator(), rule_counter()
    calls = [sum_features(map(features, docstrings()[at : at + 40])) for at in range(0, 200, 40)]
    actual = [sum(map(count, docstrings()[at : at + 40])) for at in range(0, 200, 40)]
    for turn in range(40):
        at = turn % len(calls)
        cut = 0.2 if turn % 13 == 12 else 1.0
        estimator.learn(calls[at], int(actual[at] * cut))
    misses = [abs(estimator.estimate_call(c) / a - 1) for c, a in zip(calls, actual, strict=True)]
    assert max(misses) < 0.1


RANGES = ((0x80, 0x800), (0x800, 0x2000), (0x2000, 0x3000), (0x3000, 0x10000), (0x10000, 0x110000))


def counts_of(text: str) -> tuple[int, ...]:
    """Count the features of a text, one character at a time."""
    pairs = len(re.findall("  ", text))
    punctuation = set(string.punctuation)
    return (
        1,
        sum(one in string.ascii_lowercase for one in text),
        sum(one in string.ascii_uppercase for one in text),
        sum(one in string.digits for one in text),
        text.count(" ") - 2 * pairs,
        pairs,
        sum(one < " " or one == "\x7f" for one in text),
        sum(one in punctuation for one in text),
        *(sum(first <= ord(one) < end for one in text) for first, end in RANGES),
    )


@given(st.text() | st.text(alphabet="aZ0 ,\n\x7féहก“中😀"))
def test_features_count_each_kind_of_character(text: str) -> None:
    assert features(text) == counts_of(text)


@given(st.text())
def test_features_count_every_byte_once(text: str) -> None:
    widths = (0, 1, 1, 1, 1, 2, 1, 1, 2, 3, 3, 3, 4)
    assert sum(w * c for w, c in zip(widths, features(text), strict=True)) == utf8_bytes(text)


@given(st.lists(st.text(), max_size=5))
def test_features_add_up(texts: list[str]) -> None:
    total = sum_features(map(features, texts))
    assert total == tuple(map(sum, zip(NO_FEATURES, *map(features, texts), strict=True)))
    assert total[0] == len(texts)


@pytest.mark.parametrize("texts", [1, 3, 10, 40])
def test_what_is_reserved_is_enough_for_calls_of_few_texts_as_well(texts: int) -> None:
    """The tokens of each text are off by 20 %, which cancels out in calls of 40."""
    source, estimator = random.Random(1), TokenEstimator()

    def a_call(count: int) -> tuple[Features, int]:
        made_of = [features("word " * source.randint(10, 100)) for _ in range(count)]
        actual = sum(one[1] / 3 * max(0.3, source.gauss(1.0, 0.2)) for one in made_of)
        return sum_features(made_of), round(actual)

    for _ in range(100):
        estimator.learn(*a_call(40))
    calls = [a_call(texts) for _ in range(300)]
    too_few = sum(actual > estimator.reserve(call) for call, actual in calls)
    assert too_few <= 0.1 * len(calls)
    assert sum(map(estimator.reserve, (call for call, _ in calls))) <= 2 * sum(
        actual for _, actual in calls
    )


def test_estimates_stay_between_one_and_the_cap() -> None:
    estimator = TokenEstimator(max_tokens=2048)
    assert estimator.estimate("") == 1
    assert estimator.estimate("word " * 100_000) == 2048
    assert estimator.reserve(features("word " * 100_000)) == 2048


def test_lone_surrogates_are_counted_too() -> None:
    assert TokenEstimator().estimate("\ud800abc") >= 1


def test_counts_of_zero_or_less_change_nothing() -> None:
    estimator = TokenEstimator()
    estimator.learn(features("hello"), 0)
    assert estimator.calls == 0


@given(
    st.text(st.sampled_from('a\u00e9\u6f22\U0001f600 \n\t\u3000\0"'), max_size=400),
    st.integers(1, 3),
)
def test_the_readable_part_has_at_least_the_bytes_of_its_tokens(
    words: str, max_tokens: int
) -> None:
    text = words * 5
    part = readable_part(text, max_tokens)
    assert text.startswith(part)
    spaces = len(re.findall(r"\s+", part))
    taken = len(re.sub(r"\s+", "", part).encode()) + spaces
    maximum = max_tokens * MAX_TOKEN_BYTES
    # A character of four bytes that does not fit is left out.
    assert part == text or maximum - 4 < taken <= maximum


def test_white_space_of_any_length_is_not_cut() -> None:
    text = "a" + " " * 500_000 + "b" + "\n" * 500_000 + "c"
    assert readable_part(text, 1) == text


def test_a_long_text_is_cut_quickly() -> None:
    started = time.perf_counter()
    assert len(readable_part("ab " * 2_000_000, 8192)) >= 8192 * MAX_TOKEN_BYTES
    assert time.perf_counter() - started < 5
