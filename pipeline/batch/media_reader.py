"""The contents of rows with media for job files: each file is read when its row is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from bulkembed.pipeline.batch.wanted_texts import WantedTexts
from bulkembed.pipeline.logs import log
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.batch import job_files
from bulkembed.transforms.batch.job_files import Ahead
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.hashing import Keys, keys
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset.row_contents import RowContents
from bulkembed.transforms.units.media_rows import FetchAhead
from bulkembed.transforms.units.shared_media import MediaWindow, read_media
from bulkembed.transforms.units.shared_texts import DamagePolicy

FindKnown: TypeAlias = Callable[[Keys], npt.NDArray[np.bool_]]
"""Returns which contents need not be sent: they have a vector, or are in a job."""


@dataclasses.dataclass(slots=True)
class JobMediaReader:
    """Reads rows, and notes their contents.

    A row is read once, and again if its files may have changed. Some rows are on a disk at a time.
    """

    job: JobConfig
    rows: RowContents
    fetch: FetchAhead
    on_damage: DamagePolicy
    attempts: int
    """How many contents of a row are put into jobs, if its files change each time."""
    settled: int = 0
    """The rows that were read, and need no answer of another job."""
    _written: set[int] = dataclasses.field(default_factory=set)
    _left: dict[int, str] = dataclasses.field(default_factory=dict)
    """The keys of contents that go into no job, and why."""

    def begin(self, texts: WantedTexts, is_known: FindKnown) -> Ahead[Content]:
        """Return the contents of rows that are to be sent, in order.

        To iterate raises InputError if a file of rows cannot be read, or has changed.

        Args:
            texts: the rows, each once or more.
            is_known: of contents, when the texts were searched.
        """
        self._written = set()
        found, counts = self.rows.expand(texts.keys)
        ends = np.cumsum(counts)
        due = np.concatenate([[0], np.cumsum(self._are_due(found, is_known))])
        is_due = due[ends] > due[ends - counts]
        return Ahead(self._contents(texts.where(is_due), is_known))

    def reasons(self) -> list[str]:
        """Return why contents go into no job, each reason once."""
        return sorted(set(self._left.values()))

    @property
    def left(self) -> int:
        """How many contents go into no job."""
        return len(self._left)

    def _are_due(self, found: Keys, is_known: FindKnown) -> npt.NDArray[np.bool_]:
        others = [key in self._left or key in self._written for key in found.tolist()]
        is_due: npt.NDArray[np.bool_] = ~is_known(found) & ~np.array(others, bool)
        return is_due

    def _contents(self, texts: WantedTexts, is_known: FindKnown) -> Iterator[Content]:
        spec = self.job.embedding.spec
        estimator = TokenEstimator(spec.max_tokens if spec.known else None)
        for window in read_media(texts.files, self.job, estimator, self.fetch, self.on_damage):
            yield from self._to_send(window, is_known)

    def _to_send(self, window: MediaWindow, is_known: FindKnown) -> list[Content]:
        """Return the contents of a window that are to be sent; note those of its rows."""
        items = window.contents.items
        found = keys([item.hash for item in items])
        self._leave_large(items)
        for row_hash, contents in window.rows:
            own = keys(contents).tolist()
            changes = self.rows.add(int(keys([row_hash])[0]), own)
            if changes >= self.attempts:
                why = "its media changed while its jobs were open"
                self._left |= dict.fromkeys(own, why)
        is_due = self._are_due(found, is_known)
        sent = set(found[is_due].tolist())
        self._written |= sent
        self.settled += sum(sent.isdisjoint(keys(own).tolist()) for _, own in window.rows)
        return [item for item, due in zip(items, is_due.tolist(), strict=True) if due]

    def _leave_large(self, items: list[Content]) -> None:
        large = [item for item in items if item.body_bytes > job_files.MAX_LINE_BYTES]
        if not large:
            return
        before = len(self._left)
        why = f"a line of a job file has at most {job_files.MAX_LINE_BYTES:,} bytes"
        self._left |= dict.fromkeys(keys([item.hash for item in large]).tolist(), why)
        if len(self._left) > before:
            count = len(self._left) - before
            verb = "is" if count == 1 else "are"
            log.warning("%s %s too large for a batch job: %s", number_of(count, "row"), verb, why)
