"""Contents with media that several units share: embedded first, as shared texts are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.schemas.units import FilePicks
from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.units.distinct_contents import DistinctContents
from bulkembed.transforms.units.media_rows import (
    FetchAhead,
    MediaRows,
    RowContent,
    hash_without_fetching,
)
from bulkembed.transforms.units.media_units import SPOOL_BYTES, media_root, windows
from bulkembed.transforms.units.shared_texts import TEXTS, DamagePolicy, text_only


@dataclasses.dataclass(frozen=True, slots=True)
class MediaWindow:
    """Some rows that were read together."""

    contents: DistinctContents
    rows: tuple[tuple[bytes, tuple[bytes, ...]], ...]
    """The hash of each row without its files being read, see `hash_without_fetching`, and those of
    its contents: none if it cannot be sent."""


def read_shared_media(
    files: Sequence[FilePicks],
    job: JobConfig,
    estimator: TokenEstimator,
    fetch: FetchAhead,
    on_damage: DamagePolicy = lambda file, rows: rows,
) -> Iterator[DistinctContents]:
    """Yield the contents of single rows, some at a time, as `shared_texts.read_shared`.

    Rows that cannot be sent are left to their units.

    Args:
        files: the rows.
        job: the run.
        estimator: estimates tokens.
        fetch: reads media that is not in the input.
        on_damage: handles the damage of a file; by default it is an error.

    Raises:
        InputError: a file cannot be read, or has changed.
    """
    found = (one.contents for one in read_media(files, job, estimator, fetch, on_damage))
    return (contents for contents in found if contents.items)


def read_media(
    files: Sequence[FilePicks],
    job: JobConfig,
    estimator: TokenEstimator,
    fetch: FetchAhead,
    on_damage: DamagePolicy = lambda file, rows: rows,
) -> Iterator[MediaWindow]:
    """Yield single rows, some at a time; the arguments are those of `read_shared_media`."""
    settings = job.embedding.media or MediaSettings()
    for picks in files:
        base = media_root(job.media_root, picks.file.found)
        sent = DistinctContents(job.embedding, estimator)
        media = MediaRows(sent, settings, fetch, base)
        found: list[tuple[bytes, tuple[bytes, ...]]] = []
        wanted = set(picks.rows.tolist())
        ranges = _with_rows(windows(picks.file, [(0, picks.file.rows)]), picks)
        read = read_batches(
            open_found(picks.file.found), picks.file, *text_only(job.columns), ranges
        )
        for batch in on_damage(picks.file, read):
            rows = [
                row
                for offset, row in enumerate(batch.parts or ())
                if batch.first_row + offset in wanted and offset not in batch.bad
            ]
            hashes = [hash_without_fetching(row, job.embedding, base) for row in rows]
            for row_hash, content in zip(hashes, media.add(rows), strict=True):
                own = content.passages if isinstance(content, RowContent) else ()
                if row_hash is not None:
                    found.append((row_hash, tuple(sent.items[one.item].hash for one in own)))
            if len(sent.items) >= TEXTS or media.spooled_bytes > SPOOL_BYTES:
                yield MediaWindow(sent, tuple(found))
                sent, found = DistinctContents(job.embedding, estimator), []
                media = MediaRows(sent, settings, fetch, base)
        if found:
            yield MediaWindow(sent, tuple(found))


def _with_rows(ranges: Sequence[RowRange], picks: FilePicks) -> list[RowRange]:
    """Return the ranges that have a picked row."""
    starts = np.array([first for first, _ in ranges])
    hit = np.unique(np.searchsorted(starts, picks.rows, side="right") - 1)
    return [ranges[at] for at in hit.tolist()]
