"""Get vectors through batch jobs: submit texts, wait, collect answers, and commit units.

The answers of a job are known vectors, so the code that commits units does not know about jobs.
All of this is repeated until no unit is left, and can end at any moment: the ledger says which jobs
exist, and everything else is found again from the input and the dataset.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bulkembed.pipeline.batch.batch_workers import BatchWorkers
from bulkembed.pipeline.batch.collect import Collector
from bulkembed.pipeline.batch.file_makers import FileMaker, LocalFileMaker
from bulkembed.pipeline.batch.job_end import why_no_results
from bulkembed.pipeline.batch.media_reader import JobMediaReader
from bulkembed.pipeline.batch.open_jobs import OpenJobs
from bulkembed.pipeline.batch.release import release_committed, unused_answers
from bulkembed.pipeline.batch.submission import Submission
from bulkembed.pipeline.batch.unit_commits import Embed, UnitCommits
from bulkembed.pipeline.batch.wanted_texts import PlanWindow, windows
from bulkembed.pipeline.batch.worker_files import WorkerFileMaker
from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.reuse import ReusedDataset
from bulkembed.pipeline.run.summary import BATCH_JOBS, BATCH_TEXTS, BATCH_TOKENS, BATCH_UNUSED
from bulkembed.schemas.batch import BatchConfig, BatchFallback
from bulkembed.schemas.errors import (
    BulkEmbedError,
    CallError,
    CallRejected,
    JobRejected,
    OutputTaken,
)
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.schemas.live import LiveJobs
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.stop import RERUN, StopReason
from bulkembed.transforms.batch.run_stop import RunStop
from bulkembed.transforms.calls.stopping import Stopping
from bulkembed.transforms.clients.batch_service import BatchService
from bulkembed.transforms.clients.remote_jobs import MISSING_FILE
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.dataset.batch_ledger import BatchLedger
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.row_contents import RowContents
from bulkembed.transforms.units.media_rows import FetchAhead
from bulkembed.transforms.units.shared_texts import DamagePolicy

WINDOW_ROWS = 1_000_000
"""Rows whose texts are searched at a time."""
MAX_AHEAD = 4_000_000
"""Texts that may be in open jobs or collected, and not committed: bounds the space on disk."""
CANCEL_LIMIT_S = 600.0
"""How long jobs that are late may take to be cancelled."""
COMMIT_TEXTS = 250_000
"""After so many collected answers, the units that have all of theirs are committed."""


@dataclasses.dataclass(slots=True)
class BatchRun:
    """One run in batch mode, while it holds its dataset."""

    dataset: Dataset
    job: JobConfig
    settings: BatchConfig
    service: BatchService
    retry: RetryPolicy
    stop: RunStop
    ledger: BatchLedger
    reused: Sequence[ReusedDataset]
    folder: Path
    """On a local disk, for job files and results."""
    embed: Embed
    on_damage: DamagePolicy
    can_afford: Callable[[int], str | None]
    """Returns why another job must not be paid for that costs at most so many tokens; else None."""
    fetch: FetchAhead | None = None
    """Reads the media of rows; None if rows are texts alone."""
    workers: BatchWorkers | None = None
    """The workers of a cluster, which write job files and collect results; None if none do."""
    is_limited: bool = False
    """Whether the plan leaves out rows that a later run needs answers for (`--limit-rows`)."""
    counters: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    _contents: RowContents = dataclasses.field(init=False)
    _media: JobMediaReader | None = None
    _jobs: OpenJobs = dataclasses.field(init=False)
    _units: UnitCommits = dataclasses.field(init=False)
    _submission: Submission = dataclasses.field(init=False)
    _collector: Collector = dataclasses.field(init=False)
    _uncommitted: int = 0
    """Texts that were collected since the last pass began."""
    _unanswered: int = 0
    """Texts that jobs had not answered when the last pass began."""
    _ends_at: float = float("inf")
    """When no job is waited for any more, in epoch seconds."""
    _untried: bool = False
    """Whether texts may be left that could be put into a job."""
    _paid_surcharge: int = 0
    """What the media of collected answers cost above its own tokens, in tokens of text."""
    _begun_at: float = dataclasses.field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._jobs = OpenJobs(
            self.service, self.ledger, self.settings, self.retry, self.job.embedding
        )
        has_media, attempts = self.job.embedding.media is not None, self.settings.attempts
        self._contents = self.ledger.row_contents() if has_media else RowContents()
        self._units = UnitCommits(
            self.dataset, self.job, self.stop, self.reused, self.folder, self.embed,
            self.counters, self._contents, attempts,
        )  # fmt: skip
        if self.fetch is not None:
            self._media = JobMediaReader(
                self.job, self._contents, self.fetch, self.on_damage, attempts
            )
        self._submission = Submission(self._jobs, self._file_maker(), self.can_afford)
        self._collector = Collector(self.ledger, self.service, self.job, self.folder, self.workers)

    def _file_maker(self) -> FileMaker:
        jobs, folder = self._jobs, self.folder
        if self.workers is None or self._media is not None:
            return LocalFileMaker(
                self.job, self.settings, jobs, folder, self.on_damage, self._media, self._save_rows
            )
        return WorkerFileMaker(self.workers, self.service, self.ledger, jobs, folder)

    def _save_rows(self, entry: BatchJob) -> None:
        self.ledger.save_rows(entry, self._contents)

    def run(self, plan: Plan) -> dict[str, int]:
        """Embed the units of a plan, until none is left or the run is stopped.

        An error stops the run, as an error of a worker does.

        Returns:
            The counters of the run.
        """
        try:
            self._run(plan)
        except Stopping:
            pass  # The run stops already.
        except OutputTaken as error:
            self.stop.set(StopReason.TAKEN_OVER, error.message)
        except JobRejected as error:
            self.stop.set(StopReason.REJECTED, error.message)
        except CallError as error:
            self.stop.set(StopReason.UNAVAILABLE, f"{error.message} {RERUN}")
        except BulkEmbedError as error:
            self.stop.set(StopReason.BROKEN, error.message)
        return dict(self.counters)

    def live(self) -> LiveJobs:
        """Return the state of the jobs, for progress; from any thread."""
        # Read once: the thread of the run changes them meanwhile.
        now, looks_at, opened = time.time(), self._jobs.looks_at, self._jobs.open
        begun = [entry.created_at or entry.planned_at for entry in opened]
        ended_at = [entry.ended_at for entry in self.ledger.jobs if entry.ended_at is not None]
        return LiveJobs(
            open=len(opened),
            texts=sum(entry.rows for entry in opened),
            tokens=self._jobs.enqueued_tokens,
            tokens_limit=self.settings.enqueued_tokens,
            oldest_s=max(0.0, now - min(begun)) if begun else None,
            look_s=None if looks_at is None else max(0.0, looks_at - now),
            ended=sum(at >= self._begun_at for at in ended_at),
            paid_tokens=self.counters[BATCH_TOKENS],
            paid_surcharge=self._paid_surcharge,
        )

    def _run(self, plan: Plan) -> None:
        self.dataset.delete(self.ledger.leftovers)
        self._jobs.recover(self.job.digest)
        self._collect_ended()
        self._release()
        self._set_end()
        while not self.stop.is_set():
            left = self._units.left(plan)
            if not left.work:
                if not self.is_limited:
                    self.counters[BATCH_UNUSED] += unused_answers(
                        self.ledger, self.job, self.folder
                    )
                    self._jobs.end.finish()
                break
            if self._is_late:
                self._end_jobs()
            settled = self._settled_rows
            progress = self._pass(left)
            if self.stop.is_set():
                break
            if self._settled_rows > settled:
                continue  # Rows that were read for jobs need none, and can be committed.
            if self.settings.detach and (self._jobs.open or self._untried):
                self._detach()
            elif self._jobs.open:
                self._wait_for_work()
            elif self._submission.cap is not None:
                self.stop.set(StopReason.COST_CAP, self._submission.cap)
            elif self._is_late or not (progress or self._untried):
                self._fall_back(self._units.left(plan))
                if self._units.left(plan).work and not self.stop.is_set():
                    self.stop.set(StopReason.BROKEN, f"units could not be committed. {RERUN}")
        with contextlib.suppress(CallError):  # The next run deletes what is left.
            self._submission.files.close()

    @property
    def _settled_rows(self) -> int:
        return 0 if self._media is None else self._media.settled

    def _set_end(self) -> None:
        """Set when batch jobs have had their time: from the first one that is not closed."""
        if self.settings.max_wait_s is None:
            return
        begun = [job.planned_at for job in self.ledger.jobs if job.state is not LedgerState.CLOSED]
        self._ends_at = min([*begun, time.time()]) + self.settings.max_wait_s

    @property
    def _is_late(self) -> bool:
        return time.time() >= self._ends_at

    def _end_jobs(self) -> None:
        """Cancel the open jobs, and collect what they have answered."""
        if self._jobs.open:
            log.warning(
                "%s not done in time (--batch-max-wait): cancelled",
                number_of(len(self._jobs.open), "batch job"),
            )
        self._jobs.cancel()
        until = time.time() + CANCEL_LIMIT_S
        while self._jobs.open and not self.stop.is_set():
            if self._jobs.wait(until):
                self._collect_ended()
            elif time.time() >= until:
                self._jobs.leave()

    def _pass(self, left: Plan) -> bool:
        """Commit the units that are ready, and submit the texts that are missing, in order.

        Returns:
            Whether a unit was committed or a job was submitted.
        """
        progress = self._untried = False
        self._uncommitted, self._unanswered = 0, self._jobs.unanswered
        self._submission.cap = None
        for plan in windows(left, WINDOW_ROWS):
            window = self._units.find_texts(plan)
            ready, sharing = window.ready()
            if ready.work:
                self._units.commit(ready, sharing)
                self._release()
                progress = True
            if len(window.missing):
                progress |= self._submit(window)
            if self.stop.is_set() or self._jobs.is_full or self._has_to_commit:
                self._untried = True  # Those of the other windows.
                break
        return progress

    def _submit(self, window: PlanWindow) -> bool:
        """Submit the missing texts of a window as far as the limits allow; return if any was."""
        if self._jobs.is_damaged:
            self._untried = True
            return False
        submission, submitted = self._submission, False
        submission.begin(window)
        while not self.stop.is_set() and not self._is_late and submission.is_due:
            if self._has_to_commit:
                break
            if not self._jobs.is_full and submission.submit_one():
                submitted = True
            elif self._jobs.open and not self.settings.detach:
                self._wait()
            elif self._can_submit_less:
                submission.begin(window)  # In smaller jobs.
            else:
                break
        self._untried |= submission.is_due or submission.was_refused
        return submitted

    @property
    def _can_submit_less(self) -> bool:
        """Whether smaller jobs of the same texts are to be tried.

        That is when the service took no job, and none is open. If answers were collected
        meanwhile, the next pass finds out which texts are still missing.
        """
        can_wait = not self.settings.detach or self._submission.can_be_smaller
        waits = self._jobs.open or self._uncommitted
        return self._submission.was_refused and can_wait and not waits

    @property
    def _is_far_ahead(self) -> bool:
        """Whether so many texts are ahead that no more are submitted.

        If no job is open, one is submitted all the same: the units may lack its texts.
        """
        return bool(self._jobs.open) and self._jobs.texts_ahead >= MAX_AHEAD

    @property
    def _has_to_commit(self) -> bool:
        """Whether units are to be committed before more texts are submitted."""
        return self._is_far_ahead or self._uncommitted >= COMMIT_TEXTS

    def _wait_for_work(self) -> None:
        """Wait until another pass has something to do, as each one reads many rows again.

        That is to commit many answers, to submit texts that no job has, or to submit those again
        that a job did not answer.
        """
        while self._jobs.open and not (self.stop.is_set() or self._is_late):
            can_submit = not (self._jobs.is_full or self._jobs.is_damaged or self._is_far_ahead)
            if (
                self._uncommitted >= COMMIT_TEXTS
                or (self._untried and can_submit)
                or self._jobs.unanswered > self._unanswered
            ):
                break
            self._wait()

    def _wait(self) -> None:
        """Wait until a job has ended, and collect its answers."""
        if self._jobs.wait(self._ends_at):
            self._collect_ended()

    def _collect_ended(self) -> None:
        ended = list(self._jobs.take_ended())
        by_workers = self._collector.by_workers(ended)
        for entry, remote in ended:
            if self.stop.is_set():
                return
            outcome = by_workers.get(entry.display_name)
            try:
                done = self._collector.collect(entry, remote, outcome)
            except CallRejected as error:
                if error.code != MISSING_FILE:  # The results may be there, and are paid for.
                    raise
                self._jobs.end.fail(entry, why_no_results(remote) or error.message, remote)
                continue
            self._uncommitted += done.counts.texts + done.failed
            self.counters["repeated"] += done.counts.repeated
            self.counters[BATCH_JOBS] += 1
            self.counters[BATCH_TEXTS] += done.counts.texts
            self.counters[BATCH_TOKENS] += done.counts.tokens
            self._paid_surcharge += done.paid_tokens - done.counts.tokens - done.unconfirmed

    def _fall_back(self, left: Plan) -> None:
        """Do what `--batch-fallback` says with the texts that no job has answered."""
        reasons = self._jobs.reasons() + (self._media.reasons() if self._media else [])
        rows = number_of(sum(file.rows for file in left.work), "row")
        what = f"the {self._jobs.content_noun}s of {rows}"
        why = f": {reasons[-1].rstrip('.')}" if reasons else ""
        if self.settings.fallback is BatchFallback.STOP and not self._is_late:
            self.stop.set(
                StopReason.UNAVAILABLE,
                f"batch jobs did not answer {what} in "
                f"{number_of(self.settings.attempts, 'attempt')}{why}. Rerun with "
                "--batch-fallback online to send them online, or with more --batch-attempts.",
            )
            return
        log.warning("batch jobs did not answer %s%s. They are sent online.", what, why)
        for plan in windows(left, WINDOW_ROWS):
            if not self.stop.is_set():
                self._units.commit_online(plan)

    def _release(self) -> None:
        release_committed(self._jobs, self.ledger, self.job, self.folder)

    def _detach(self) -> None:
        if not self._jobs.open:
            self.stop.set(
                StopReason.DETACHED,
                "the service takes no batch job now. Run the same command again later.",
            )
            return
        jobs = number_of(len(self._jobs.open), "batch job")
        texts = number_of(sum(entry.rows for entry in self._jobs.open), self._jobs.content_noun)
        self.stop.set(
            StopReason.DETACHED,
            f"{jobs} with {texts} submitted. Run the same command again to collect the answers.",
        )
