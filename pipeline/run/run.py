"""One run from the first look at the input to the summary: plan, embed, settle."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import time
from collections.abc import Iterator
from typing import Any

from bulkembed.pipeline.progress.progress import make_goal, make_progress
from bulkembed.pipeline.progress.snapshot import Goal
from bulkembed.pipeline.run import cost_cap, scratch, settle
from bulkembed.pipeline.run.disk import check_free_space
from bulkembed.pipeline.run.due_work import (
    committed,
    make_job,
    plan_run,
    quota_shares,
    runs_on_this_machine,
    scan,
    skip_damaged_file,
)
from bulkembed.pipeline.run.plan import Plan, Scans, cluster_slices, save_scans, slices
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.run.service import serving
from bulkembed.pipeline.run.settle import Outcome
from bulkembed.pipeline.run.sharing import Sharing, copy_known_vectors, find_sharing
from bulkembed.pipeline.run.summary import RunSummary, join_names
from bulkembed.pipeline.runners.execute import Watch, execute
from bulkembed.schemas.embedding import ServiceConfig
from bulkembed.schemas.errors import InputError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.models import ModelSpec, find_model, nearest_models
from bulkembed.schemas.stop import Stop, StopReason
from bulkembed.transforms.clients.keys import find_key, refuse_in_flags
from bulkembed.transforms.core.quota_limits import split_concurrency, split_quota
from bulkembed.transforms.dataset import kept_answers, output_lock, run_file, worker_notes
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import SUCCESS, record_name
from bulkembed.transforms.dataset.output_lock import LockOwner
from bulkembed.transforms.dataset.records import DatasetState

log = logging.getLogger("bulkembed")

MAX_ATTEMPTS = 3
"""How often a run reads files again that are rewritten meanwhile."""


def run(request: RunRequest) -> RunSummary:
    """Embed what is left of the input, and say what became of every row.

    Where a file was rewritten while it was read, its rows are embedded again at once.

    Raises:
        ConfigError, InputError, OutputError: nothing was sent.
    """
    started = time.monotonic()
    summary = _run_once(request, started)
    whole = request.input.limit_rows is None and not request.retry_failed
    for _ in range(MAX_ATTEMPTS - 1):
        if not summary.changed_files or summary.stop is not None or not whole:
            break
        names = join_names(summary.changed_files)
        log.warning("rewritten while they were read, and embedded again: %s", names)
        summary = _run_once(dataclasses.replace(request, overwrite=False), started)
    return summary


def _run_once(request: RunRequest, started: float) -> RunSummary:
    """Embed what is left of the input as it is now."""
    key, key_from = find_key(request.service)
    refuse_in_flags(request.beam_args, key)
    shares = quota_shares(request)
    dataset = Dataset.open(request.output.uri)
    with scratch.usable(dataset), serving(request.service) as service:
        scans = scan(dataset, request)
        job = cost_cap.add_account(request, make_job(request, service, scans, dataset), dataset)
        if not request.overwrite:
            _warn_of_template(run_file.check(dataset, job))
        with output_lock.acquire(dataset, LockOwner(job.run_id, request.runner or "local")) as dead:
            request = _resumed(dataset, job, request)
            before = DatasetState() if request.overwrite else committed(dataset, scans)
            plan = plan_run(request, scans, before)
            # A retry makes no row dead that was not: it may fail on all that it tries.
            planned = plan.rows if request.retry_failed else plan.planned_rows
            job = split_quota(job, shares)
            job = dataclasses.replace(job, max_dead_rows=request.dead_letters.allowed(planned))
            _announce(request, job, plan, key_from)
            if plan.work and runs_on_this_machine(request):
                _check_client(job, key)
            _take_over(dataset, dead)
            counters: dict[str, int] = {}
            scans, plan, sharing = _readable(request, job, dataset, scans, before, plan)
            if _changes_anything(request, dataset, scans, before, plan):
                check_free_space(dataset, plan, job, sharing.texts)
                job = _open_dataset(dataset, job, scans, before, request, sharing)
            if plan.work:
                cost_cap.start_account(job, dataset, before)
                goal = make_goal(request, job, scans, plan, before, sharing)
                counters = _embed(request, job, plan, sharing, goal, started)
            outcome = Outcome(request, job, scans, plan, before, counters)
            return settle.finish(dataset, outcome, time.monotonic() - started)


def _check_client(job: JobConfig, key: str | None) -> None:
    """Build a client once, so that certificates and proxies are checked before Beam starts."""
    from bulkembed.transforms.clients.gemini import check_client

    check_client(job.service, job.embedding, key)


def _changes_anything(
    request: RunRequest, dataset: Dataset, scans: Scans, before: DatasetState, plan: Plan
) -> bool:
    """Return whether this run has anything to write; if not, `_SUCCESS` stays where it is."""
    if plan.work or request.overwrite or not settle.has_success_marker(dataset):
        return True
    if before.stale or before.unnamed:
        return True
    gone, replaced = settle.outdated_files(dataset, scans, before)
    return bool(replaced) or (request.prune and bool(gone))


def _resumed(dataset: Dataset, job: JobConfig, request: RunRequest) -> RunRequest:
    """Return the request without `--overwrite` if it goes on with an overwrite that was begun."""
    if not request.overwrite or not run_file.resumes_overwrite(dataset, job):
        return request
    log.info(
        "an earlier run with --overwrite has deleted what was at %s and is not complete; this run "
        "goes on with it",
        request.output.uri,
    )
    return dataclasses.replace(request, overwrite=False)


def _take_over(dataset: Dataset, dead: LockOwner | None) -> None:
    """Tell the workers of a run whose launcher died to end at once, so that they send no calls."""
    if dead is not None:
        log.warning("run %s on %s is dead; this one takes its output over", dead.run_id, dead.host)
        stop = Stop(StopReason.SIGNAL, "another run has taken the output over", time.time())
        worker_notes.write_stop(dataset, dead.run_id, stop)


def _announce(request: RunRequest, job: JobConfig, plan: Plan, key_from: str) -> None:
    spec = find_model(request.embedding.model)
    today = dt.datetime.now(dt.UTC).date()
    for warning in model_warnings(spec, request.embedding.dim, request.service, today):
        log.warning("%s", warning)
    log.info(
        "%s on %s (%s), %s, dim %s; %s; %s rows in, %s to do in %s units",
        spec.name,
        request.service.identity,
        key_from,
        request.embedding.task_type,
        job.embedding.out_dim or "by the first answer",
        job.calls.limits,
        f"{plan.rows:,}",
        f"{plan.planned_rows:,}",
        f"{plan.units:,}",
    )


def model_warnings(
    spec: ModelSpec, dim: int | None, service: ServiceConfig, today: dt.date
) -> Iterator[str]:
    """Yield what somebody should know of the model before the first call."""
    if not spec.known:
        near = nearest_models(spec.name) if service.is_google else []
        meant = f" Did you mean --model {' or '.join(near)}?" if near else ""
        yield (
            f"{spec.name} is not in bulkembed's registry: nothing is known of its dims, tasks and "
            f"tokens.{meant} See `bulkembed models`"
        )
    dim_warning = spec.dim_warning(dim)
    if dim_warning is not None:
        yield f"--{dim_warning}"
    if spec.is_shut_down(today):
        yield f"Google shut {spec.name} down on {spec.shut_down}; its successor is {spec.successor}"


def _warn_of_template(pinned: dict[str, Any] | None) -> None:
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

    `_SUCCESS` goes first.  From the moment the run has its number nothing else is committed, so
    that what earlier runs left, and what does not count, can be deleted.
    """
    run_file.end_overwrite(dataset)
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
        cost_cap.delete_account(job)
        run_file.mark_deleted(dataset)
    dataset.delete(kept_answers.files_of_other_settings(dataset, job))
    copy_known_vectors(dataset, job, sharing)  # Some may be in parts that are deleted now.
    # Units that were committed since the state was read stay, those found damaged then go.
    state = dataset.state()
    damaged = {one for one in state.records if record_name(one) in before.stale}
    dataset.delete(dataset.leftovers(state.without(damaged)))
    save_scans(dataset, scans, request.input.columns)
    return job


def _sharing(
    request: RunRequest, job: JobConfig, dataset: Dataset, plan: Plan, before: DatasetState
) -> Sharing:
    """What the units share; a retry of some rows is not worth the look."""
    if not plan.work or request.retry_failed:
        return Sharing()
    from bulkembed.pipeline.runners.graph import beam_options, is_local

    local = is_local(beam_options(request.runner, request.beam_args, request.workers))
    return find_sharing(dataset, job, plan, before, local=local)


def _readable(
    request: RunRequest,
    job: JobConfig,
    dataset: Dataset,
    scans: Scans,
    before: DatasetState,
    plan: Plan,
) -> tuple[Scans, Plan, Sharing]:
    """Return what the units share, and the input without files that turn out to be damaged.

    Raises:
        InputError: a file cannot be read, and such files are not to be passed over.
    """
    while True:
        try:
            return scans, plan, _sharing(request, job, dataset, plan, before)
        except InputError as error:
            scans = skip_damaged_file(request, scans, error)
            plan = plan_run(request, scans, before)


def _embed(
    request: RunRequest, job: JobConfig, plan: Plan, sharing: Sharing, goal: Goal, started: float
) -> dict[str, int]:
    from bulkembed.pipeline.runners import graph

    options = graph.beam_options(request.runner, request.beam_args, request.workers)
    here, there = graph.local_workers(options), graph.cluster_workers(options)
    processes = graph.worker_processes(options)
    work = list(slices(plan, here) if here else cluster_slices(plan, there))
    shared = list(sharing.slices(here or there or 1))
    job = split_concurrency(job, processes)
    ends_at = None if request.max_runtime_s is None else started + request.max_runtime_s
    watch = Watch(shutdown_timeout_s=request.calls.shutdown_timeout_s, ends_at=ends_at)
    with scratch.folder() as folder:
        progress = make_progress(
            goal, job, local=here is not None, processes=processes, folder=folder
        )
        return execute(
            lambda: graph.run_graph(job, work, shared, options, folder), job, watch, progress
        )
