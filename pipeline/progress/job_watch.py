"""The batch jobs of a run, for its progress, which another thread than that of the jobs shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from bulkembed.pipeline.progress.sources import Source
from bulkembed.schemas.live import Live, LiveJobs


class JobWatch:
    """Knows the batch jobs of a run once it has begun with them."""

    def __init__(self) -> None:
        self._read: Callable[[], LiveJobs] | None = None

    def follow(self, read: Callable[[], LiveJobs]) -> None:
        """Take the jobs from a function that may be called in any thread."""
        self._read = read

    def read(self) -> LiveJobs | None:
        """Return the jobs as they are now; None if the run has not begun with them."""
        return None if self._read is None else self._read()


class WatchedSource:
    """The numbers of a source, and the batch jobs of the run.

    Args:
        source: what the workers do.
        jobs: the jobs.
    """

    def __init__(self, source: Source, jobs: JobWatch) -> None:
        self._source = source
        self._jobs = jobs

    def read(self) -> Live:
        """Return the newest numbers; never waits."""
        return dataclasses.replace(self._source.read(), jobs=self._jobs.read())

    def close(self) -> None:
        """Close the source."""
        self._source.close()
