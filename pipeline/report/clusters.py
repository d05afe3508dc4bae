"""Vectors laid out in two dimensions, in clusters, and the words that name each cluster."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from bulkembed.pipeline.report.sample import SEED

Floats64 = npt.NDArray[np.float64]

MAX_CLUSTERS = 9
"""The number of colours that colour-blind readers can tell apart."""
COMPONENTS = 50
PERPLEXITY = 30
ITERATIONS = 350
ANGLE = 0.8
"""How coarsely t-SNE approximates distant points. Of 1,500 docstrings, as many neighbours stay
neighbours as with 500 iterations and scikit-learn's 0.5, in half the time."""
MAX_WORDS = 3
"""Words of a cluster's name."""
MAX_SHARE = 0.5
"""A word that occurs in a larger share of all texts is not distinctive."""
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_PIECES = re.compile(rf"[{_UNSPACED}]{{2,}}|(?:(?![{_UNSPACED}])[^\W\d_]){{3,}}")
_SHARED_PREFIX = 4
"""Of words that share so many first letters, such as `test` and `tests`, a name has one."""


def name_clusters(texts: Sequence[str], clusters: Sequence[int], count: int) -> list[list[str]]:
    """Return the most distinctive words of each cluster, the best first; may be empty.

    The weight is a class-based TF-IDF: the share of the cluster's texts that have the word, times
    the logarithm of this share divided by its share of all texts. Words that occur everywhere have
    no weight.

    Args:
        texts: one per row.
        clusters: the cluster of each row, from 0.
        count: the number of clusters.
    """
    vectorizer = CountVectorizer(
        analyzer=lambda text: list(words(text)), binary=True, min_df=2, max_features=20_000
    )
    try:
        has = vectorizer.fit_transform(texts)
    except ValueError:
        return [[] for _ in range(count)]  # No word occurs twice.
    vocabulary = vectorizer.get_feature_names_out()
    overall = np.asarray(has.mean(axis=0)).ravel()
    of = np.asarray(clusters)
    return [
        _best(vocabulary, has[of == cluster], overall) if (of == cluster).any() else []
        for cluster in range(count)
    ]


def words(text: str) -> Iterator[str]:
    """Yield the words of a text that can be in a name; pairs of signs in scripts without spaces."""
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
    weight[overall > MAX_SHARE] = 0
    chosen: list[str] = []
    for at in np.argsort(-weight, kind="stable"):
        word = str(vocabulary[at])
        if weight[at] <= 0 or len(chosen) == MAX_WORDS:
            break
        if not any(_alike(word, other) for other in chosen):
            chosen.append(word)
    return chosen


def _alike(one: str, other: str) -> bool:
    return one[:_SHARED_PREFIX] == other[:_SHARED_PREFIX]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class MapLayout:
    """Points and clusters; every array has one entry per vector."""

    flat: Floats64
    """Points in two dimensions."""
    cluster: npt.NDArray[np.int64]
    """From 0, the largest one."""
    distance: Floats64
    """Distance from the centre of the cluster."""

    @property
    def clusters(self) -> int:
        """The number of clusters."""
        return int(self.cluster.max()) + 1


def lay_out(vectors: npt.NDArray[np.float32]) -> MapLayout:
    """Lay vectors out by PCA and t-SNE, and cluster the points by k-means, reproducibly.

    Clusters are found on the map itself, so that each cluster is one area of it.

    Args:
        vectors: finite, all different, at least a few dozen.
    """
    # More threads make nothing faster here: they spin while they wait for each other.
    with threadpool_limits(1):
        flat = _flatten(_reduce(vectors))
        return MapLayout(flat, *_cluster(flat))


def _reduce(vectors: npt.NDArray[np.float32]) -> Floats64:
    components = min(COMPONENTS, len(vectors) - 1, vectors.shape[1])
    reduced: Floats64 = PCA(components, random_state=SEED).fit_transform(vectors)
    return reduced


def _flatten(reduced: Floats64) -> Floats64:
    perplexity = min(PERPLEXITY, (len(reduced) - 1) / 3)
    tsne = TSNE(
        init="pca", perplexity=perplexity, max_iter=ITERATIONS, angle=ANGLE, random_state=SEED
    )
    flat: Floats64 = tsne.fit_transform(reduced)
    return flat


def _cluster(flat: Floats64) -> tuple[npt.NDArray[np.int64], Floats64]:
    """Return the cluster of each point, from the largest, and the distance from its centre."""
    count = min(MAX_CLUSTERS, max(2, math.isqrt(len(flat)) // 3))
    means = KMeans(count, n_init=4, random_state=SEED).fit(flat)
    order = np.argsort(-np.bincount(means.labels_, minlength=count), kind="stable")
    rank = np.argsort(order, kind="stable")
    distance: Floats64 = means.transform(flat).min(axis=1)
    return rank[means.labels_], distance
