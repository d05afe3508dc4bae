"""A map of a corpus: a sample of its vectors in two dimensions, in clusters that have names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.report.sample import Sample, SampledRow
from pipeline.report.sample_texts import SampledText

LEAST_POINTS = 30
"""Fewer are no map."""

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

    Equal vectors are one point.
    """
    finite = np.flatnonzero(np.isfinite(sample.vectors).all(axis=1))
    first = {sample.vectors[at].tobytes(): at for at in reversed(finite)}
    places = sorted(first.values())
    if len(places) < LEAST_POINTS:
        return None
    # scikit-learn takes a second to load, which a small dataset is to be spared.
    from pipeline.report.cluster_names import name_clusters
    from pipeline.report.layout import lay_out

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
