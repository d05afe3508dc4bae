"""A map of a corpus: sampled vectors in two dimensions, in clusters that have names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bulkembed.pipeline.report.sample import Sample, SampledRow, SampledText

Floats64 = npt.NDArray[np.float64]
MIN_POINTS = 30
"""Fewer different vectors make no map."""


@dataclasses.dataclass(frozen=True, slots=True)
class MapPoint:
    """A row of the dataset with its place on the map and the number of its cluster."""

    x: float
    y: float
    cluster: int
    row: SampledRow
    text: SampledText | None


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """Points near each other; the largest cluster has number 0."""

    words: tuple[str, ...]
    points: int
    x: float
    y: float
    """The medians of its points."""
    typical: MapPoint
    """The point nearest to the centre, preferably one with an image or a text to show."""


@dataclasses.dataclass(frozen=True, slots=True)
class CorpusMap:
    """The points, and the clusters by number."""

    points: tuple[MapPoint, ...]
    clusters: tuple[Cluster, ...]

    @property
    def has_texts(self) -> bool:
        """Whether a text of some row is known."""
        return any(point.text is not None for point in self.points)

    @property
    def has_media(self) -> bool:
        """Whether the media of the rows may be shown."""
        return any(point.row.media is not None for point in self.points)


def draw_map(sample: Sample, texts: Sequence[SampledText | None]) -> CorpusMap | None:
    """Return the map of a sample; None if it has too few different vectors.

    Equal vectors make one point.
    """
    finite = np.flatnonzero(np.isfinite(sample.vectors).all(axis=1))
    first = {hash(sample.vectors[at].tobytes()): at for at in reversed(finite)}
    places = sorted(first.values())
    if len(places) < MIN_POINTS:
        return None
    # scikit-learn takes a second to import: only for a map.
    from bulkembed.pipeline.report.clusters import lay_out, name_clusters

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
    typical = min(
        members,
        key=lambda at: (points[at].row.thumbnail is None, points[at].text is None, distance[at]),
    )
    return Cluster(
        words=tuple(words),
        points=len(members),
        x=float(np.median([points[at].x for at in members])),
        y=float(np.median([points[at].y for at in members])),
        typical=points[typical],
    )
