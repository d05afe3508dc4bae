"""A run from the scan of the input to the summary: plan, embed, settle."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bulkembed.pipeline.batch.launch import finish_jobs, run_batches, warn_of_open_jobs
from bulkembed.pipeline.compact.compact import compact, result_lines
from bulkembed.pipeline.logs import log
from bulkembed.pipeline.progress.job_watch import JobWatch
from bulkembed.pipeline.progress.progress import make_goal, make_progress
from bulkembed.pipeline.run import cost_cap, publish, settle
from bulkembed.pipeline.run.disk import check_free_space
from bulkembed.pipeline.run.distribution import Distribution, distribute
from bulkembed.pipeline.run.due_work import (
    committed,
    make_job,
    plan_run,
    scan,
    skip_damaged_file,
)
from bulkembed.pipeline.run.early_units import RestOfRun, SearchedUnits, search_first
from bulkembed.pipeline.run.missing_files import check_missing_files
from bulkembed.pipeline.run.placement import quota_shares, runs_on_this_machine
from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.refusal import noting_refusals
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.run.reuse import ReusedDataset, open_reused
from bulkembed.pipeline.run.scans import Scans, save_scans
from bulkembed.pipeline.run.service import serving
from bulkembed.pipeline.run.settle import Outcome
from bulkembed.pipeline.run.sharing import Sharing, keep_vectors
from bulkembed.pipeline.run.summary import RunSummary, join_names
from bulkembed.pipeline.runners.execute import TimeLimits, execute
from bulkembed.pipeline.sync.preparation import Sync, begin, prepare
from bulkembed.schemas.embedding import ServiceConfig
from bulkembed.schemas.errors import ConfigError, InputError, OutputLocked, OutputTaken
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.models import ModelSpec, find_model, nearest_models
from bulkembed.schemas.stop import ExitCode, Stop, StopReason
from bulkembed.transforms.clients.keys import find_key, reject_in_flags
from bulkembed.transforms.core.quota_limits import split_quota
from bulkembed.transforms.dataset import (
    kept_answers,
    output_lock,
    run_file,
    scratch,
    worker_notes,
)
from bulkembed.transforms.dataset.array_imports import import_pandas_first
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import SUCCESS, record_name
from bulkembed.transforms.dataset.output_lock import LockOwner
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.media.prepare_media import check_installed
from bulkembed.transforms.units.allocators import return_large_buffers

MAX_ATTEMPTS = 3
"""How often a run reads files that are rewritten meanwhile."""


def run(request: RunRequest) -> RunSummary:
    """Embed the remaining rows of the input, and return the summary.

    Files that are rewritten while they are read are embedded again in the same run.

    Raises:
        ConfigError, InputError, OutputError: nothing was sent.
    """
    started = time.monotonic()
    summary = _run_once(request, started)
    whole = request.input.limit_rows is None and not request.retry_failed
    for _ in range(MAX_ATTEMPTS - 1):
        if not summary.changed_files or summary.stop is not None or not whole:
            break
        log.warning(
            "files changed while they were read. Embedding them again: %s",
            join_names(summary.changed_files),
        )
        summary = _run_once(dataclasses.replace(request, overwrite=False), started)
    if request.target_file_size is not None and summary.exit_code is ExitCode.COMPLETE:
        _compact(
            request.output.uri, request.target_file_size, keep_superseded=request.keep_superseded
        )
    return summary


def _compact(output: str, target_bytes: int, *, keep_superseded: bool) -> None:
    """Merge the small parts of a complete dataset; another run may take it at the same moment."""
    try:
        result = compact(output, target_bytes, keep_superseded=keep_superseded)
    except (OutputLocked, OutputTaken) as error:
        log.warning("the files were not merged: %s", error.message)
        return
    for name, line in result_lines(result):
        if name != "dataset":
            log.info("%s: %s", name, line)


def _run_once(request: RunRequest, started: float) -> RunSummary:
    """Embed the remaining rows of the input as it is now."""
    try:
        return _attempt(request, started)
    except _LateCommits:
        # Now that this run has taken the dataset, no worker of an earlier run can commit to it.
        log.info("workers of an earlier run have committed more rows. Comparing again.")
        return _attempt(dataclasses.replace(request, overwrite=False), started)


class _LateCommits(Exception):
    """Rows were committed after a synchronisation had read the dataset, so it would repeat them."""


def _attempt(request: RunRequest, started: float) -> RunSummary:
    import_pandas_first()
    if request.embedding.media is not None:
        check_installed()
    if request.embedding.media is not None or request.mode.uses_batch:
        return_large_buffers()
    key, key_from = find_key(request.service)
    reject_in_flags(request.beam_args, key)
    shares = quota_shares(request)
    dataset = Dataset.open(request.output.uri)
    if not dataset.is_on_a_store and Path(dataset.root).is_file():
        raise ConfigError(f"--output {request.output.uri} is a file. Choose a folder.")
    with scratch.usable(dataset), serving(request.service) as service:
        scans = scan(dataset, request)
        job = cost_cap.add_account(request, make_job(request, service, scans, dataset), dataset)
        if not request.overwrite:
            _warn_about_template(run_file.check(dataset, job))
        reused = open_reused(request, dataset)
        owner = LockOwner(job.run_id, request.runner or "local")
        with output_lock.acquire(dataset, owner) as dead_owner, scratch.folder() as folder:
            request = _resume_overwrite(dataset, job, request)
            before = DatasetState()
            if not request.overwrite:
                before = committed(dataset, scans, sync=request.sync)
            sync = None
            if request.sync:
                _stop_dead_run(dataset, dead_owner)
            with noting_refusals(dataset, job.run_id, exists=bool(before.records)):
                if request.sync:
                    sync = prepare(dataset, job, request, scans, before)
                    plan = sync.plan
                else:
                    plan = plan_run(request, scans, before)
                    check_missing_files(dataset, request, job, scans, before, folder)
            # Rows of a retry have failed before, so a retry may fail on all of them.
            planned = plan.rows if request.retry_failed else plan.planned_rows
            job = split_quota(job, shares)
            job = dataclasses.replace(job, max_dead_rows=request.dead_letters.allowed(planned))
            _log_start(request, job, plan, key_from)
            if plan.work and runs_on_this_machine(request):
                _check_client(job, key)
            if sync is None:
                _stop_dead_run(dataset, dead_owner)
            counters: dict[str, int] = {}
            first = SearchedUnits(plan)
            if not request.mode.uses_batch or before.damaged:
                scans, plan, first = _share_texts(
                    request, job, dataset, scans, before, plan, reused, folder
                )
            sharing = first.sharing
            if request.mode.uses_batch:  # It searches by itself, in parts that fit its jobs.
                sharing = Sharing(rescued=sharing.rescued)
            work = distribute(request, job, first.plan, sharing) if plan.work else None
            if _changes_anything(request, dataset, scans, before, plan, sync):
                gathered = work.gather.gathered_rows if work else 0
                check_free_space(dataset, plan, job, sharing.texts + gathered)
                job = _open_dataset(dataset, job, scans, before, request, sharing)
                if sync is not None:
                    if set(dataset.state().records) - set(before.records):
                        raise _LateCommits
                    begin(dataset, job, sync)
            mirror = None if sync is None else sync.mirror
            outcome = Outcome(request, job, scans, plan, before, {}, mirror)
            if work is not None:
                counters = _embed(dataset, outcome, work, first, reused, folder, key, started)
            elif request.mode.uses_batch:
                finish_jobs(request, job, dataset, key)
            outcome = dataclasses.replace(outcome, counters=counters)
            return settle.finish(dataset, outcome, time.monotonic() - started)


def _check_client(job: JobConfig, key: str | None) -> None:
    """Build a client once, so that certificates and proxies are checked before Beam starts."""
    from bulkembed.transforms.clients.gemini import check_client

    check_client(job.service, job.embedding, key)


def _changes_anything(
    request: RunRequest,
    dataset: Dataset,
    scans: Scans,
    before: DatasetState,
    plan: Plan,
    sync: Sync | None,
) -> bool:
    """Return whether this run has anything to write; if not, `_SUCCESS` is not touched."""
    if plan.work or request.overwrite or not settle.has_success_marker(dataset):
        return True
    if before.stale or before.unnamed:
        return True
    if sync is not None:
        return sync.removes_rows
    missing, replaced = settle.outdated_files(dataset, scans, before)
    return bool(replaced) or (request.prune and bool(missing))


def _resume_overwrite(dataset: Dataset, job: JobConfig, request: RunRequest) -> RunRequest:
    """Return the request without `--overwrite` if an earlier run has deleted the old dataset."""
    if not request.overwrite or not run_file.resumes_overwrite(dataset, job):
        return request
    log.info(
        "an earlier run with --overwrite deleted the old dataset at %s and is incomplete. "
        "This run resumes it.",
        request.output.uri,
    )
    return dataclasses.replace(request, overwrite=False)


def _stop_dead_run(dataset: Dataset, dead_owner: LockOwner | None) -> None:
    """Stop the workers of a run whose launcher died, so that they send no more requests."""
    if dead_owner is None:
        return
    log.warning(
        "run %s on %s has died. This run takes over its output.", dead_owner.run_id, dead_owner.host
    )
    stop = Stop(StopReason.SIGNAL, "another run has taken over the output", time.time())
    worker_notes.write_stop(dataset, dead_owner.run_id, stop)


def _log_start(request: RunRequest, job: JobConfig, plan: Plan, key_from: str) -> None:
    spec = find_model(request.embedding.model)
    today = dt.datetime.now(dt.UTC).date()
    for warning in model_warnings(spec, request.embedding.dim, request.service, today):
        log.warning("%s", warning)
    dim = job.embedding.out_dim
    log.info(
        "%s on %s (%s), %s, %s; %s; %s, %s to embed in %s",
        spec.name,
        request.service.identity,
        key_from,
        request.embedding.task_type,
        f"{dim} dimensions" if dim is not None else "dimensions from the first response",
        job.calls.limits,
        number_of(plan.rows, "input row"),
        f"{plan.planned_rows:,}",
        number_of(plan.units, "unit"),
    )


def model_warnings(
    spec: ModelSpec, dim: int | None, service: ServiceConfig, today: dt.date
) -> Iterator[str]:
    """Yield what a user should know about the model before the first request."""
    if not spec.known:
        near = nearest_models(spec.name) if service.is_google else []
        meant = f" Did you mean --model {' or '.join(near)}?" if near else ""
        yield (
            f"unknown model {spec.name!r}: its dimensions, task types and token limit are not in "
            f"bulkembed's registry.{meant} See `bulkembed models`."
        )
    dim_warning = spec.dim_warning(dim)
    if dim_warning is not None:
        yield f"--{dim_warning}"
    if spec.is_shut_down(today):
        yield f"Google shut down {spec.name} on {spec.shut_down}. Use {spec.successor} instead."


def _warn_about_template(pinned: dict[str, Any] | None) -> None:
    warning = run_file.template_warning(pinned) if pinned is not None else None
    if warning is not None:
        log.warning("%s", warning)


def _open_dataset(
    dataset: Dataset,
    job: JobConfig,
    scans: Scans,
    before: DatasetState,
    request: RunRequest,
    sharing: Sharing,
) -> JobConfig:
    """Make the first changes of a run, and return the job with its run number.

    `_SUCCESS` is deleted first; the manifest has the state that it stood for. Once the run has its
    number, no other run can commit, so what earlier runs left behind and what does not count can be
    deleted.
    """
    run_file.end_overwrite(dataset)
    if not request.overwrite and before.records:
        publish.adopt_state(dataset, before, run_file.read(dataset)["last_run_id"])
    dataset.delete([SUCCESS])
    job = run_file.take(
        dataset,
        job,
        request.settings,
        after=dataset.last_run_number(),
        overwrite=request.overwrite,
    )
    if run_file.is_deleting(dataset):
        dataset.delete_all()
        cost_cap.delete_account(job, dataset)
        budget = cost_cap.online_budget(request, dataset)
        job = dataclasses.replace(job, budget=budget)
        run_file.mark_deleted(dataset)
    dataset.delete(kept_answers.files_of_other_settings(dataset, job))
    dataset.delete(dataset.gathered_files())
    keep_vectors(dataset, job, sharing.rescued, "rescued")
    # Units committed since the state was read are kept; those found damaged then are deleted.
    state = dataset.state()
    damaged = {one for one in state.records if record_name(one) in before.stale}
    dataset.delete(dataset.leftovers(state.without(damaged)))
    save_scans(dataset, scans, request.input.columns)
    return job


def _share_texts(
    request: RunRequest,
    job: JobConfig,
    dataset: Dataset,
    scans: Scans,
    before: DatasetState,
    plan: Plan,
    reused: Sequence[ReusedDataset],
    folder: Path,
) -> tuple[Scans, Plan, SearchedUnits]:
    """Find the texts that units share, which reads the rows of the units to begin with.

    Returns:
        The scans and the plan without files that turn out to be damaged, and the units to begin
        with.

    Raises:
        InputError: a file cannot be read, and `--skip-bad-files` is not set.
    """
    while True:
        if not plan.work or (request.retry_failed and not request.sync):
            return scans, plan, SearchedUnits(plan)
        try:
            first = search_first(dataset, request, job, plan, before, folder, reused)
            return scans, plan, first
        except InputError as error:
            scans = skip_damaged_file(request, scans, error)
            plan = plan_run(request, scans, before)


def _embed(
    dataset: Dataset,
    outcome: Outcome,
    work: Distribution,
    first: SearchedUnits,
    reused: Sequence[ReusedDataset],
    folder: Path,
    key: str | None,
    started: float,
) -> dict[str, int]:
    """Embed the planned units, while signals, time limits and progress are handled.

    Args:
        dataset: the output.
        outcome: what is known about the run.
        work: the units to begin with, distributed.
        first: the same units.
        reused: other datasets.
        folder: on a local disk, for temporary files.
        key: the API key; None for application-default credentials.
        started: when the run started, by `time.monotonic`.

    Returns:
        The counters of the run.
    """
    request, job, plan, before = outcome.request, outcome.job, outcome.plan, outcome.before
    work = work.write(dataset, job, folder)
    cost_cap.start_account(job, dataset, before)
    goal = make_goal(request, job, outcome.rows(before), plan, before, first.sharing)
    pipeline, jobs = functools.partial(work.run, job, folder), None
    if not request.mode.uses_batch:
        warn_of_open_jobs(dataset, job.embedding.content_noun)
    else:
        jobs = JobWatch()
        pipeline = functools.partial(
            run_batches, request, job, dataset, plan, reused, folder, key, jobs
        )
    if first.rest is not None:
        later = RestOfRun(
            dataset, request, job, first.plan, first.rest, before, folder, reused, goal
        )
        pipeline = functools.partial(later.run_after, work)
    ends_at = None if request.max_runtime_s is None else started + request.max_runtime_s
    limits = TimeLimits(shutdown_timeout_s=request.calls.shutdown_timeout_s, ends_at=ends_at)
    progress = make_progress(
        goal, job, folder, local=work.is_local, processes=work.processes, jobs=jobs
    )
    return execute(pipeline, job, limits, progress)
