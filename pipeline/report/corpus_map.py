"""A map of a corpus: a sample of its vectors in two dimensions, in clusters that have names."""

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

from bulkembed.pipeline.report.sample import SEED, Sample, SampledRow
from bulkembed.pipeline.report.sample_texts import SampledText

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


MOST_CLUSTERS = 9
"""As many colours are told apart, by the colour-blind as well."""
COMPONENTS = 50
PERPLEXITY = 30
ITERATIONS = 500

Floats64 = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Everything has one entry a vector."""

    flat: Floats64
    """Points in two dimensions."""
    cluster: npt.NDArray[np.int64]
    """From 0, which is the largest one."""
    distance: Floats64
    """From the centre of its cluster."""

    @property
    def clusters(self) -> int:
        """How many there are."""
        return int(self.cluster.max()) + 1


def lay_out(vectors: npt.NDArray[np.float32]) -> Layout:
    """PCA, then t-SNE on its components, then k-means on the points: the same each time.

    The clusters are found on the map itself, so that each is one area of it.

    Args:
        vectors: finite, different from one another, more than a few.
    """
    # Threads that wait for one another burn a busy machine's cores, and make nothing faster here.
    with threadpool_limits(1):
        flat = _flatten(_reduce(vectors))
        return Layout(flat, *_cluster(flat))


def _reduce(vectors: npt.NDArray[np.float32]) -> Floats64:
    components = min(COMPONENTS, len(vectors) - 1, vectors.shape[1])
    reduced: Floats64 = PCA(components, random_state=SEED).fit_transform(vectors)
    return reduced


def _flatten(reduced: Floats64) -> Floats64:
    perplexity = min(PERPLEXITY, (len(reduced) - 1) / 3)
    tsne = TSNE(init="pca", perplexity=perplexity, max_iter=ITERATIONS, random_state=SEED)
    flat: Floats64 = tsne.fit_transform(reduced)
    return flat


def _cluster(flat: Floats64) -> tuple[npt.NDArray[np.int64], Floats64]:
    """The cluster of each point, the largest first, and its distance from that one's centre."""
    count = min(MOST_CLUSTERS, max(2, math.isqrt(len(flat)) // 3))
    means = KMeans(count, n_init=4, random_state=SEED).fit(flat)
    order = np.argsort(-np.bincount(means.labels_, minlength=count), kind="stable")
    rank = np.argsort(order, kind="stable")
    distance: Floats64 = means.transform(flat).min(axis=1)
    return rank[means.labels_], distance


LEAST_POINTS = 30
"""Fewer are no map."""


@dataclasses.dataclass(frozen=True, slots=True)
class MapPoint:
    """A row of the dataset, where it is on the map, and the number of its cluster."""

    x: float
    y: float
    cluster: int
    row: SampledRow
    text: SampledText | None


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """Points that are near to one another; the largest cluster has number 0."""

    words: tuple[str, ...]
    points: int
    x: float
    y: float
    """Of the middle one of its points, both ways."""
    typical: MapPoint
    """The point nearest to its centre, of those that have a text if any has."""


@dataclasses.dataclass(frozen=True, slots=True)
class CorpusMap:
    """The points, and their clusters by number."""

    points: tuple[MapPoint, ...]
    clusters: tuple[Cluster, ...]


def draw_map(sample: Sample, texts: Sequence[SampledText | None]) -> CorpusMap | None:
    """The map of a sample; None where it has too few different vectors.

    Equal vectors are one point.
    """
    finite = np.flatnonzero(np.isfinite(sample.vectors).all(axis=1))
    first = {sample.vectors[at].tobytes(): at for at in reversed(finite)}
    places = sorted(first.values())
    if len(places) < LEAST_POINTS:
        return None
    # scikit-learn takes a second to load, which a small dataset is to be spared.
    pass
    pass

    layout = lay_out(sample.vectors[places])
    points = tuple(
        MapPoint(float(x), float(y), int(cluster), sample.rows[at], texts[at])
        for at, (x, y), cluster in zip(places, layout.flat, layout.cluster, strict=True)
    )
    known = [point.text.text if point.text is not None else "" for point in points]
    names = name_clusters(known, layout.cluster.tolist(), layout.clusters)
    clusters = tuple(
        _summary(points, np.flatnonzero(layout.cluster == number), layout.distance, words)
        for number, words in enumerate(names)
    )
    return CorpusMap(points, clusters)


def _summary(
    points: tuple[MapPoint, ...],
    members: npt.NDArray[np.intp],
    distance: Floats64,
    words: list[str],
) -> Cluster:
    typical = min(members, key=lambda at: (points[at].text is None, distance[at]))
    return Cluster(
        words=tuple(words),
        points=len(members),
        x=float(np.median([points[at].x for at in members])),
        y=float(np.median([points[at].y for at in members])),
        typical=points[typical],
    )
