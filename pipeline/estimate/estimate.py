"""Estimates a run with its own planner, deduplication, packing and token counts."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bulkembed.pipeline.estimate.counting import Counter, SharedTally, UnitTally
from bulkembed.pipeline.estimate.result import Amount, BatchEstimate, Estimate
from bulkembed.pipeline.estimate.sampling import draw, learn_from, total_of, units_to_read
from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.due_work import (
    committed,
    make_job,
    plan_run,
    scan,
    skip_damaged_file,
)
from bulkembed.pipeline.run.missing_files import check_missing_files
from bulkembed.pipeline.run.placement import quota_shares
from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.refusal import Refusal
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.run.reuse import open_reused
from bulkembed.pipeline.run.row_amount import RowAmount
from bulkembed.pipeline.run.scans import Scans
from bulkembed.pipeline.run.sharing import find_sharing
from bulkembed.pipeline.sync.preparation import prepare
from bulkembed.schemas.errors import ConfigError, InputError, TooManyDeletes
from bulkembed.schemas.job import Dedupe, JobConfig
from bulkembed.schemas.media_settings import LongMedia, MediaCheck
from bulkembed.schemas.units import FileUnits
from bulkembed.transforms.core.quota_limits import max_call_size, quota_time, split_quota
from bulkembed.transforms.core.quota_mirror import QuotaMirror
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset import run_file, scratch
from bulkembed.transforms.dataset.committed_source import CommittedSource
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.kept_answers import KeptAnswers
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.media.fetching import MediaFetcher
from bulkembed.transforms.media.prepare_media import check_installed
from bulkembed.transforms.units.allocators import return_large_buffers
from bulkembed.transforms.units.media_rows import FetchAhead
from bulkembed.transforms.units.media_units import media_units
from bulkembed.transforms.units.prepare import PreparedUnit, prepared_units


def estimate(request: RunRequest, sample: RowAmount | None = None) -> Estimate:
    """Estimate the run of a request. Nothing is sent or written, and no key is needed.

    Args:
        request: the run. An empty output means a new dataset.
        sample: how much of the input to read; None for all of it.

    Raises:
        ConfigError, InputError, OutputError: where the run would raise them; except for missing
            files, deletes and repeated ids, which are a warning.
    """
    if request.embedding.media is not None:
        check_installed()
        return_large_buffers()
    shares = quota_shares(request)
    with tempfile.TemporaryDirectory(prefix="bulkembed-") as folder:
        dataset = Dataset.open(request.output.uri or folder)
        scans = scan(dataset, request)
        job = split_quota(make_job(request, request.service, scans, dataset), shares)
        if request.overwrite and not run_file.resumes_overwrite(dataset, job):
            dataset = Dataset.open(folder)
        pinned = run_file.check(dataset, job) or {}
        job = dataclasses.replace(
            job,
            pinned_digest=pinned.get("embedding_digest", ""),
            unstamped_run=run_file.unstamped_run(pinned),
        )
        before = committed(dataset, scans, sync=request.sync)
        refusals: list[Refusal] = []

        def note(error: ConfigError | TooManyDeletes) -> None:
            refusals.append(Refusal.of(job.run_id, error))
            log.warning("a run would end with %s", refusals[-1].line())

        if request.sync:
            # The rows to send are staged beside the dataset, which stays as it is.
            plan = prepare(
                dataset, job, request, scans, before, staged_in=folder, on_refusal=note
            ).plan
            found = _Estimation(request, job, dataset, scans, before, plan).estimate(sample)
            return dataclasses.replace(found, refused=next(iter(refusals), None))
        try:
            check_missing_files(dataset, request, job, scans, before, Path(folder))
        except (ConfigError, TooManyDeletes) as error:
            note(error)
        while True:
            plan = plan_run(request, scans, before)
            try:
                found = _Estimation(request, job, dataset, scans, before, plan).estimate(sample)
                return dataclasses.replace(found, refused=next(iter(refusals), None))
            except InputError as error:
                scans = skip_damaged_file(request, scans, error)


@contextlib.contextmanager
def _media_reader(job: JobConfig) -> Iterator[FetchAhead | None]:
    """Yield what reads the media of rows; None if rows are texts alone."""
    if job.embedding.media is None:
        yield None
        return
    with contextlib.closing(MediaFetcher(job.fetch, by_uri=job.embedding.sends_uris)) as fetcher:
        yield fetcher.fetch_ahead


@contextlib.contextmanager
def _committed(dataset: Dataset, job: JobConfig) -> Iterator[CommittedSource | None]:
    """Yield what looks up media that was read; None if it is sent whatever is committed."""
    if job.embedding.media is None or job.dedupe is not Dedupe.RUN:
        yield None
        return
    with contextlib.closing(CommittedSource(dataset, job)) as committed:
        yield committed


@dataclasses.dataclass(frozen=True, slots=True)
class _Estimation:
    """The units to estimate, and how."""

    request: RunRequest
    job: JobConfig
    dataset: Dataset
    scans: Scans
    before: DatasetState
    plan: Plan

    def estimate(self, sample: RowAmount | None) -> Estimate:
        units = self.plan.units if sample is None else units_to_read(sample, self.plan)
        estimator = TokenEstimator(self.job.embedding.spec.max_tokens)
        learnt = 0
        if (
            units and self.job.embedding.media is None
        ):  # It reads texts of committed rows, which would be in vain.
            learnt = learn_from(self.job, self.dataset, self.scans.inputs, self.before, estimator)
        whole = units == self.plan.units
        work = self.plan.work if whole else draw(self.plan, units)
        with _media_reader(self.job) as fetch, _committed(self.dataset, self.job) as committed:
            counter = self._counter(estimator, committed)
            shared = self._count_shared(counter, work, fetch, whole=whole)
            tallies = [
                counter.unit(prepared)
                for file in work
                for prepared in self._prepared(file, estimator, fetch)
            ]
        return self._sum_up(tallies, shared, counter, learnt)

    def _prepared(
        self, file: FileUnits, estimator: TokenEstimator, fetch: FetchAhead | None
    ) -> Iterator[PreparedUnit]:
        """Yield the units of a file; of media only headers are read."""
        job = self.job
        media = job.embedding.media
        if fetch is None or media is None:
            return prepared_units(job, self.dataset, estimator, file)
        if media.check is MediaCheck.DECODE:
            headers = dataclasses.replace(media, check=MediaCheck.HEADER)
            embedding = dataclasses.replace(job.embedding, media=headers)
            job = dataclasses.replace(job, embedding=embedding)
        return media_units(job, self.dataset, estimator, file, fetch, splits=False)

    def _counter(self, estimator: TokenEstimator, committed: CommittedSource | None) -> Counter:
        calls = self.job.calls
        mirror = QuotaMirror(calls.limits, call_texts=self.job.embedder.call_texts)
        limits = mirror.call_limits(0.0, max_call_size(self.job.embedder))
        kept = KeptAnswers(self.dataset, self.job)
        kept.refresh()
        return Counter(self.job, estimator, limits, kept, committed)

    def _count_shared(
        self,
        counter: Counter,
        work: tuple[FileUnits, ...],
        fetch: FetchAhead | None,
        *,
        whole: bool,
    ) -> SharedTally:
        """Find known vectors, and count the texts that are sent before the units.

        Of a sample only the known vectors are found. A retry has neither.
        """
        if self.request.retry_failed and not self.request.sync:
            return SharedTally()
        reused = open_reused(self.request, self.dataset)
        plan = dataclasses.replace(self.plan, work=work)
        with scratch.folder() as folder:
            sharing = find_sharing(
                self.dataset, self.job, plan, self.before, folder, reused, keep=False
            )
            counter.know_keys(sharing.known_keys)
        slices = sharing.slices(self.request.workers) if whole else ()
        return counter.shared(slices, fetch)

    def _batch(self, texts: Amount, tokens: Amount, media_bytes: Amount) -> BatchEstimate | None:
        settings = self.request.batch
        if not settings.is_offered:
            return None
        files = math.ceil(media_bytes.value / settings.max_job_bytes(self.request.service))
        return BatchEstimate.of(settings, texts.value, tokens.value, files)

    def _sum_up(
        self, tallies: list[UnitTally], shared: SharedTally, counter: Counter, learnt: int
    ) -> Estimate:
        plan, embedding = self.plan, self.job.embedding
        rows = [tally.rows for tally in tallies]
        all_rows = sum(file.rows for file in plan.work)

        def total(value: Callable[[UnitTally], float]) -> Amount:
            if not tallies:
                return Amount(0.0)
            return Amount(*total_of([*map(value, tallies)], rows, plan.units, all_rows))

        texts = total(lambda tally: tally.sent.texts) + shared.sent.texts
        tokens = total(lambda tally: tally.sent.tokens) + shared.sent.tokens
        calls = total(lambda tally: tally.sent.calls) + shared.sent.calls
        billed = total(lambda tally: tally.sent.billed) + shared.sent.billed
        media_bytes = total(lambda tally: tally.sent.media_bytes) + shared.sent.media_bytes
        return Estimate(
            model=embedding.spec.name,
            service=embedding.service,
            dim=embedding.out_dim,
            long_text=str(LongMedia.PIECES if embedding.cuts_media else embedding.long_text),
            limits=self.request.calls.limits,
            rows_in=plan.rows,
            rows_left=plan.remaining_rows,
            rows_due=plan.planned_rows,
            blank=total(lambda tally: tally.blank),
            unfit=total(lambda tally: tally.unfit),
            codes=dict(sorted(counter.codes.items())),
            repeated=total(lambda tally: tally.repeated) + -shared.texts,
            reused=total(lambda tally: tally.reused),
            too_long=total(lambda tally: tally.too_long),
            paid=total(lambda tally: tally.paid) + shared.paid,
            texts=texts,
            tokens=tokens,
            calls=calls,
            billed=billed,
            price=self.request.price(),
            time=quota_time(self.request.calls.limits, texts.value, calls.value, tokens.value),
            batch=self._batch(texts, tokens, media_bytes),
            longest=tuple(counter.longest),
            units=plan.units,
            units_read=len(tallies),
            rows_read=sum(rows),
            learnt_units=learnt,
            content_noun=embedding.content_noun,
        )
