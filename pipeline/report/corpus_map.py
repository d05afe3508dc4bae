"""A map of a corpus: a sample of its vectors in two dimensions, in clusters that have names."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from pipeline.report.cluster_names import name_clusters
from pipeline.report.sample import SEED, Sample, SampledRow
from pipeline.report.sample_texts import SampledText

LEAST_POINTS = 30
"""Fewer are no map."""
MOST_CLUSTERS = 9
"""As many colours are told apart, by the colour-blind as well."""
COMPONENTS = 50
PERPLEXITY = 30
ITERATIONS = 500

Floats64 = npt.NDArray[np.float64]


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

    PCA, then t-SNE on the PCA's components; the clusters are those that k-means finds on the map
    itself, so that each is one area of it.  Equal vectors are one point.
    """
    finite = np.flatnonzero(np.isfinite(sample.vectors).all(axis=1))
    _, first = np.unique(sample.vectors[finite], axis=0, return_index=True)
    places = finite[np.sort(first)]
    if len(places) < LEAST_POINTS:
        return None
    # Threads that wait for one another burn a busy machine's cores, and make nothing faster here.
    with threadpool_limits(1):
        flat = _flatten(_reduce(sample.vectors[places]))
        of, distance = _cluster(flat)
    points = tuple(
        MapPoint(float(x), float(y), int(cluster), sample.rows[at], texts[at])
        for at, (x, y), cluster in zip(places, flat, of, strict=True)
    )
    return CorpusMap(points, _clusters(points, of, distance))


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


def _clusters(
    points: tuple[MapPoint, ...], of: npt.NDArray[np.int64], distance: Floats64
) -> tuple[Cluster, ...]:
    count = int(of.max()) + 1
    known = [at for at, point in enumerate(points) if point.text is not None]
    texts = [text.text for point in points if (text := point.text) is not None]
    names = name_clusters(texts, [int(of[at]) for at in known], count)
    return tuple(
        _summary(points, np.flatnonzero(of == cluster), distance, names[cluster])
        for cluster in range(count)
    )


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
