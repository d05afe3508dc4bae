"""Start a run in batch mode: its service, its ledger, and its work on the runner of the job."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from bulkembed.pipeline.batch.batch_cost import can_afford
from bulkembed.pipeline.batch.batch_run import BatchRun
from bulkembed.pipeline.batch.batch_workers import BatchWorkers, run_on_cluster
from bulkembed.pipeline.batch.open_jobs import OpenJobs
from bulkembed.pipeline.logs import log
from bulkembed.pipeline.progress.job_watch import JobWatch
from bulkembed.pipeline.run.cost_cap import online_budget
from bulkembed.pipeline.run.distribution import distribute
from bulkembed.pipeline.run.placement import cluster_options
from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.run.reuse import ReusedDataset
from bulkembed.pipeline.run.sharing import Sharing
from bulkembed.schemas.batch import MAX_WAIT_S, Mode
from bulkembed.schemas.errors import CallError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.ledger_entry import LedgerState
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.batch.batch_worker import BatchWork
from bulkembed.transforms.batch.run_stop import RunStop
from bulkembed.transforms.clients.batch_service import open_batch_service
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.dataset import run_file
from bulkembed.transforms.dataset.batch_ledger import BatchLedger
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.media.fetching import MediaFetcher
from bulkembed.transforms.units.damaged_files import skip_damage

FINISH_RETRY_S = 10.0
"""How long a call is retried that only cleans up."""


def run_batches(
    request: RunRequest,
    job: JobConfig,
    dataset: Dataset,
    plan: Plan,
    reused: Sequence[ReusedDataset],
    folder: Path,
    key: str | None,
    watch: JobWatch,
) -> dict[str, int]:
    """Embed the units of a plan through batch jobs, and return the counters of the run.

    Args:
        request: the options.
        job: the run, which holds the dataset.
        dataset: the output.
        plan: the units.
        reused: other datasets.
        folder: on a local disk, for job files and results.
        key: the API key; None for application-default credentials.
        watch: of the progress, which follows the jobs.

    Raises:
        ConfigError: the environment names certificates or a proxy that cannot be used.
        OutputError: the ledger cannot be read or written.
    """
    job = dataclasses.replace(job, batch=True)
    ledger = BatchLedger(dataset)

    def embed(job: JobConfig, plan: Plan, sharing: Sharing) -> dict[str, int]:
        run_file.check_ownership(dataset, job)
        dataset.delete(dataset.gathered_files())
        if job.sends_online:
            job = dataclasses.replace(job, budget=online_budget(request, dataset, ledger))
        work = distribute(request, job, plan, sharing).write(dataset, job, folder)
        return work.run(job, folder)

    settings = request.batch
    if request.mode is Mode.AUTO and settings.max_wait_s is None:
        settings = dataclasses.replace(settings, max_wait_s=MAX_WAIT_S)
    stop = RunStop(dataset, job.run_id)
    retry = RetryPolicy(job.calls.retry_timeout_s, stop.is_set, stop.wait)
    service = open_batch_service(job.service, job.embedding, key, request.batch.bucket, retry)
    workers = None
    if cluster_options(request) is not None:
        run_stage = functools.partial(run_on_cluster, request)
        workers = BatchWorkers(BatchWork(job, settings), dataset, stop, run_stage)
    has_media = job.embedding.media is not None
    fetcher = None
    if has_media:
        fetcher = MediaFetcher(job.fetch, stop.is_set, by_uri=job.embedding.sends_uris)
    try:
        run = BatchRun(
            dataset, job, settings, service, retry, stop, ledger, reused, folder, embed,
            functools.partial(skip_damage, dataset, job),
            lambda tokens: can_afford(request, dataset, ledger, tokens),
            fetch=None if fetcher is None else fetcher.fetch_ahead,
            workers=workers,
            is_limited=request.input.limit_rows is not None,
        )  # fmt: skip
        watch.follow(run.live)
        return run.run(plan)
    finally:
        if fetcher is not None:
            fetcher.close()
        service.close()


def warn_of_open_jobs(dataset: Dataset, noun: str) -> None:
    """Warn of batch jobs whose texts an online run pays for again; `noun` is what these are.

    Raises:
        OutputError: the ledger cannot be read.
    """
    entries = BatchLedger(dataset).of_state(LedgerState.UPLOADED, LedgerState.CREATED)
    if entries:
        log.warning(
            "%s with %s may be open. This online run does not wait for the answers, and pays for "
            "these %ss again. To end the jobs and keep their answers, use --mode auto "
            "--batch-max-wait 0s.",
            number_of(len(entries), "batch job"),
            number_of(sum(entry.rows for entry in entries), noun),
            noun,
        )


def finish_jobs(request: RunRequest, job: JobConfig, dataset: Dataset, key: str | None) -> None:
    """Close the jobs that an earlier run left behind, of a dataset that lacks no row.

    If the service is down, they are left to a later run after some seconds.

    Args:
        request: the options.
        job: the run, which holds the dataset.
        dataset: the output.
        key: the API key; None for application-default credentials.

    Raises:
        ConfigError: the environment names certificates or a proxy that cannot be used.
        OutputError: the ledger cannot be read or written.
    """
    ledger = BatchLedger(dataset)
    dataset.delete(ledger.leftovers)
    if all(entry.state is LedgerState.CLOSED for entry in ledger.jobs):
        return
    retry = RetryPolicy(min(FINISH_RETRY_S, job.calls.retry_timeout_s))
    service = open_batch_service(job.service, job.embedding, key, request.batch.bucket, retry)
    try:
        jobs = OpenJobs(service, ledger, request.batch, retry, job.embedding)
        jobs.recover(job.digest)
        jobs.end.finish()
    except CallError as error:
        log.warning(
            "batch jobs or their files may be left at the service: %s. The same command deletes "
            "them.",
            error.message.rstrip("."),
        )
    finally:
        service.close()
