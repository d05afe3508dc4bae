"""The early units of a large plan, which are embedded while the texts of the others are searched.

With `--dedupe run` the texts of a plan are searched before any is sent, so that each one is paid
for once. That takes two seconds per million rows. So of a large plan only the first units are
searched at first. While they are embedded, a thread searches the texts of the rest, without those
that early units have. Once the early units are committed, their vectors that the rest wants are
kept as shared answers, and the rest is embedded.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.progress.snapshot import Goal
from bulkembed.pipeline.run.disk import check_free_space
from bulkembed.pipeline.run.distribution import Distribution, distribute
from bulkembed.pipeline.run.placement import cluster_options
from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.run.reuse import ReusedDataset
from bulkembed.pipeline.run.sharing import Sharing, find_sharing, keep_vectors
from bulkembed.pipeline.run.text_search import distinct_keys
from bulkembed.schemas.embedding import LongText
from bulkembed.schemas.errors import BulkEmbedError, InputError, OutputTaken
from bulkembed.schemas.job import Dedupe, JobConfig
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.batch.run_stop import RunStop
from bulkembed.transforms.calls.stopping import Stopping
from bulkembed.transforms.core.hashing import Keys
from bulkembed.transforms.core.quota_limits import split_concurrency
from bulkembed.transforms.dataset import run_file
from bulkembed.transforms.dataset.committed_vectors import committed_index
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.known_places import PLACE, KnownPlaces, PlaceSource
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.units.damaged_files import note_damage
from bulkembed.transforms.units.engine import engine_for, release

MIN_ROWS, MIN_BYTES = 1_000_000, 1 << 30
"""A plan of at most so many rows and bytes is searched as a whole, in some seconds."""
SHARE = 0.02
"""The share of the rows that are early. Embedding these takes about as long as searching the rest
if nothing limits the speed, and longer with a quota."""
LEAST_ROWS, MOST_ROWS = 100_000, 1_000_000
"""Limits of the early rows."""
EARLY_BYTES = 256 << 20
"""The limit of their bytes in the input, of which each file counts by the share of its rows."""
MAX_KNOWN = 1000
"""If early units want more known vectors, the plan is searched as a whole: each row group of the
known parts would be read twice, for the early units and for the rest."""
_CHECK_EVERY_S = 0.2


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SearchedUnits:
    """The units that a run begins with: all, or the early ones."""

    plan: Plan
    sharing: Sharing = dataclasses.field(default_factory=Sharing)
    rest: Plan | None = None
    """The units whose texts are searched meanwhile; None if there are no early units."""


def search_first(
    dataset: Dataset,
    request: RunRequest,
    job: JobConfig,
    plan: Plan,
    before: DatasetState,
    folder: Path,
    reused: Sequence[ReusedDataset],
) -> SearchedUnits:
    """Search the texts of the early units of a plan, or of all units if it has no early ones.

    Args:
        dataset: the output; this process has its lock.
        request: the options.
        job: the run.
        plan: its units.
        before: the state of the dataset.
        folder: on a local disk, for temporary files; must exist until the run has ended.
        reused: other datasets.

    Raises:
        InputError, OutputError: a file cannot be read, or a disk is full.
    """
    rows = early_rows(plan.planned_rows, plan.size_bytes)
    if rows and _may_divide(request, job, before):
        early, rest = plan.divided(rows)
        sharing = find_sharing(dataset, job, early, before, folder, reused, keep=True)
        if rest.work and len(sharing.known) <= MAX_KNOWN:
            return SearchedUnits(early, sharing, rest)
    return SearchedUnits(plan, find_sharing(dataset, job, plan, before, folder, reused, keep=True))


def early_rows(rows: int, size_bytes: int) -> int:
    """Return how many rows of a plan are early, about; 0 for none.

    Args:
        rows: of the plan.
        size_bytes: their bytes in the input.
    """
    if rows <= MIN_ROWS and size_bytes <= MIN_BYTES:
        return 0
    wanted = min(max(LEAST_ROWS, int(rows * SHARE)), MOST_ROWS)
    return max(1, min(wanted, rows * EARLY_BYTES // max(1, size_bytes)))


def _may_divide(request: RunRequest, job: JobConfig, before: DatasetState) -> bool:
    """Return whether a run may have early units.

    The vectors of early units are found by the hashes of their texts in the index of committed
    rows. It has no hashes of the passages that make a mean, nor of media. On a cluster, a second
    Beam job would take minutes to start.
    """
    return (
        job.dedupe is Dedupe.RUN
        and not (request.sync or request.mode.uses_batch or before.damaged)
        and job.embedding.media is None
        and job.embedding.long_text is not LongText.MEAN
        and cluster_options(request) is None
    )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RestOfRun:
    """The units of a run after the early ones."""

    dataset: Dataset
    request: RunRequest
    job: JobConfig
    early: Plan
    rest: Plan
    before: DatasetState
    folder: Path
    """On a local disk."""
    reused: Sequence[ReusedDataset]
    goal: Goal
    """Of the whole run; gets the number of shared texts once it is known."""

    def run_after(self, work: Distribution) -> dict[str, int]:
        """Embed the early units, whose lists are written, and then the rest.

        Returns:
            The counters of both.
        """
        log.info(
            "embedding the first %s while the texts of the other %s are searched for duplicates",
            number_of(self.early.planned_rows, "row"),
            f"{self.rest.planned_rows:,}",
        )
        ended = threading.Event()
        with (
            _engine_between(self.job, work),
            concurrent.futures.ThreadPoolExecutor(1, "text-search") as pool,
        ):
            searching = pool.submit(self._search, ended)
            try:
                counters = collections.Counter(work.run(self.job, self.folder))
                counters.update(self._run(searching))
            finally:
                ended.set()
        return dict(counters)

    def _search(self, ended: threading.Event) -> tuple[Plan, Sharing]:
        """Search the texts of the rest; return it without damaged files, and what it shares.

        Raises:
            InputError: a file is damaged, and the run does not skip it.
        """

        def check() -> None:
            if ended.is_set():
                raise Stopping

        early, rest = self.early, self.rest
        settled = None
        while True:
            try:
                if settled is None:
                    settled = distinct_keys(self.job, early, check)
                return rest, find_sharing(
                    self.dataset, self.job, rest, self.before, self.folder, self.reused,
                    keep=True, settled=settled, check=check,
                )  # fmt: skip
            except InputError as error:
                of_both = (one.file for one in (*early.work, *rest.work))
                file = next((one for one in of_both if one.found.path == error.path), None)
                if file is None:
                    raise
                note_damage(self.dataset, self.job, file, error)
                early, rest = early.without_file(error.path), rest.without_file(error.path)

    def _run(self, searching: concurrent.futures.Future[tuple[Plan, Sharing]]) -> dict[str, int]:
        """Embed the rest once its texts are searched, unless the run must end."""
        stop = RunStop(self.dataset, self.job.run_id)
        try:
            while not (stop.is_set() or searching.done()):
                concurrent.futures.wait([searching], _CHECK_EVERY_S)
            if stop.is_set():
                return {}
            rest, sharing = searching.result()
            return self._embed(rest, sharing) if rest.work else {}
        except OutputTaken as error:
            stop.set(StopReason.TAKEN_OVER, error.message)
        except BulkEmbedError as error:
            stop.set(StopReason.BROKEN, error.message)
        return {}

    def _embed(self, rest: Plan, sharing: Sharing) -> dict[str, int]:
        job, dataset = self.job, self.dataset
        run_file.check_ownership(dataset, job)
        self.goal.shared += sum(file.texts for file in sharing.picks)
        dataset.delete(dataset.gathered_files())
        work = distribute(self.request, job, rest, sharing)
        kept = sharing.texts + len(sharing.settled) + work.gather.gathered_rows
        check_free_space(dataset, rest, job, kept)
        self._keep_early_vectors(sharing.settled)
        return work.write(dataset, job, self.folder).run(job, self.folder)

    def _keep_early_vectors(self, wanted: Keys) -> None:
        """Keep the vectors of early units that the rest wants, as shared answers.

        As known vectors they would be gathered once for each unit that wants them. The units send
        the texts that are not found, such as those of dead letters.
        """
        if not len(wanted):
            return
        dataset, records = self.dataset, self.dataset.state().records
        digest = self.job.embedding.digest
        index = committed_index(dataset, records, digest, self.folder, keep=True)
        found = index.find(np.sort(wanted))
        places = np.zeros(len(found.parts), PLACE)
        places["part"], places["row"] = found.parts, found.rows
        places.sort(order=["part", "row"])
        source = PlaceSource(dataset, index.parts)
        keep_vectors(dataset, self.job, KnownPlaces((source,), places), "early")


@contextlib.contextmanager
def _engine_between(job: JobConfig, work: Distribution) -> Iterator[None]:
    """Keep the engine of this process between the early units and the rest, if it has one.

    So connections, learned limits and the count of dead letters stay. Other processes start again.
    """
    if not work.is_local or work.processes > 1:
        yield
        return
    engine = engine_for(split_concurrency(job, work.processes))
    try:
        yield
    finally:
        release(engine)
