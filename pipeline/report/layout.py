"""Vectors laid out in two dimensions, and the clusters that they make there."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from pipeline.report.sample import SEED

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
