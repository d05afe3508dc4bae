"""Clusters of texts named by the words that set them apart, in any language."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

WORDS = 3
"""Of a name."""
MOST_TEXTS = 0.5
"""A word that a larger part of all texts has sets none apart."""
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_PIECES = re.compile(rf"[{_UNSPACED}]{{2,}}|(?:(?![{_UNSPACED}])[^\W\d_]){{3,}}")
_SHARED_BEGINNING = 4
"""Words that begin alike, such as `test` and `tests`, do not both stand in a name."""


def name_clusters(texts: Sequence[str], clusters: Sequence[int], count: int) -> list[list[str]]:
    """The words of each cluster, the most telling first; none where no word tells it apart.

    A class-based TF-IDF: a word weighs as much as texts of the cluster have it, times the logarithm
    of how much more often they do than all texts.  So words that occur everywhere weigh nothing.

    Args:
        texts: one a row.
        clusters: of each row, from 0.
        count: how many clusters there are.
    """
    vectorizer = CountVectorizer(
        analyzer=lambda text: list(words(text)), binary=True, min_df=2, max_features=20_000
    )
    try:
        has = vectorizer.fit_transform(texts)
    except ValueError:
        return [[] for _ in range(count)]  # Not one word occurs twice.
    vocabulary = vectorizer.get_feature_names_out()
    overall = np.asarray(has.mean(axis=0)).ravel()
    of = np.asarray(clusters)
    return [
        _best(vocabulary, has[of == cluster], overall) if (of == cluster).any() else []
        for cluster in range(count)
    ]


def words(text: str) -> Iterator[str]:
    """The words of a text that may name it; pairs of signs where there are no spaces."""
    for piece in _PIECES.findall(text.casefold()):
        if re.match(f"[{_UNSPACED}]", piece):
            yield from (piece[at : at + 2] for at in range(len(piece) - 1))
        elif piece not in ENGLISH_STOP_WORDS:
            yield piece


def _best(
    vocabulary: npt.NDArray[np.str_], has: Any, overall: npt.NDArray[np.float64]
) -> list[str]:
    share = np.asarray(has.mean(axis=0)).ravel()
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(share > 0, share * np.log(share / overall), 0)
    weight[overall > MOST_TEXTS] = 0
    chosen: list[str] = []
    for at in np.argsort(-weight, kind="stable"):
        word = str(vocabulary[at])
        if weight[at] <= 0 or len(chosen) == WORDS:
            break
        if not any(_alike(word, other) for other in chosen):
            chosen.append(word)
    return chosen


def _alike(one: str, other: str) -> bool:
    return one[:_SHARED_BEGINNING] == other[:_SHARED_BEGINNING]
