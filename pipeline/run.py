"""One run from the first look at the input to the summary: plan, embed, settle."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import logging
import secrets
import time
from collections.abc import Iterator
from importlib import metadata

from pipeline import settle
from pipeline.execute import Watch, execute
from pipeline.planning import Plan, Scans, make_plan, save_scans, scan_inputs, slices
from pipeline.request import RunRequest
from pipeline.summary import RunSummary, run_rows
from schemas.embedding import ServiceConfig
from schemas.errors import ConfigError
from schemas.job import JobConfig
from schemas.models import ModelSpec, find_model
from schemas.stop import Stop
from schemas.units import CallCounts
from transforms.clients.keys import find_key
from transforms.storage import run_file, stop_notes
from transforms.storage.columns import merge_schemas
from transforms.storage.dataset import SUCCESS, SUMMARIES, Dataset, State

log = logging.getLogger("bulkembed")


def run(request: RunRequest) -> RunSummary:
    """Embeds what is left of the input, and says what became of every row.

    Raises:
        ConfigError, InputError, OutputError: nothing was sent.
    """
    started = time.monotonic()
    _, key_from = find_key(request.service)
    _check_beam_flags(request)
    dataset = Dataset.open(request.output.uri)
    with _service(request.service) as service:
        scans = _scan(dataset, request)
        job = _job(request, service, scans)
        run_file.check(dataset, job)
        before = dataset.state()
        plan = make_plan(scans.inputs, before, request.unit_rows, request.input.limit_rows)
        _announce(request, job, plan, key_from)
        counters: dict[str, int] = {}
        if plan.work or not settle.is_settled(dataset):
            _open_dataset(dataset, job, scans, before, request)
        if plan.work:
            counters = _embed(request, job, plan)
        return _finish(request, job, scans, plan, dataset, before, counters, started)


def _check_beam_flags(request: RunRequest) -> None:
    """Raises ConfigError before anything is changed; Beam is imported only if it has flags."""
    if request.runner or request.beam_args:
        from pipeline.graph import beam_options

        beam_options(request.runner, request.beam_args)


def _scan(dataset: Dataset, request: RunRequest) -> Scans:
    wanted = request.input
    scans = scan_inputs(
        dataset,
        wanted.patterns,
        wanted.columns,
        format=wanted.format,
        skip_bad_files=wanted.skip_bad_files,
        output=request.output.uri,
    )
    for error in scans.unreadable:
        log.warning("%s: passed over by --skip-bad-files", error.message)
    return scans


def _job(request: RunRequest, service: ServiceConfig, scans: Scans) -> JobConfig:
    return JobConfig(
        run_id=f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}",
        service=service,
        embedding=request.model.embedding(request.service, request.input.columns),
        calls=request.calls,
        columns=request.input.columns,
        row_schema=merge_schemas(scans.files, request.input.columns),
        output=request.output,
        blank_text=request.input.blank_text,
        version=metadata.version("bulkembed"),
    )


def _announce(request: RunRequest, job: JobConfig, plan: Plan, key_from: str) -> None:
    spec = find_model(request.model.model)
    _warn_of_model(spec, dt.datetime.now(dt.UTC).date())
    log.info(
        "%s on %s (%s), %s, dim %s; %s; %s rows in, %s to do in %s units",
        spec.name,
        request.service.identity,
        key_from,
        request.model.task_type,
        job.embedding.out_dim or "by the first answer",
        request.calls.limits,
        f"{plan.rows:,}",
        f"{plan.due_rows:,}",
        f"{plan.units:,}",
    )


def _warn_of_model(spec: ModelSpec, today: dt.date) -> None:
    if not spec.known:
        log.warning(
            "%s is not in bulkembed's registry: nothing is known of its dims, tasks and tokens; "
            "see `bulkembed models`",
            spec.name,
        )
    if spec.is_shut_down(today):
        log.warning(
            "Google shut %s down on %s; its successor is %s",
            spec.name,
            spec.shut_down,
            spec.successor,
        )


def _open_dataset(
    dataset: Dataset, job: JobConfig, scans: Scans, state: State, request: RunRequest
) -> None:
    """The first change of a run: `_SUCCESS` goes, and so does what a killed run left."""
    dataset.delete([SUCCESS])
    dataset.delete(dataset.strangers(state))
    stop_notes.clear(dataset)
    run_file.pin(dataset, job, request.settings)
    save_scans(dataset, scans, request.input.columns)


def _embed(request: RunRequest, job: JobConfig, plan: Plan) -> dict[str, int]:
    from pipeline.graph import beam_options, local_workers, run_graph

    options = beam_options(request.runner, request.beam_args)
    work = list(slices(plan, local_workers(options)))
    watch = Watch(grace_s=request.grace_s, deadline_s=request.deadline_s)
    return execute(lambda: run_graph(job, work, options), job, watch)


def _finish(
    request: RunRequest,
    job: JobConfig,
    scans: Scans,
    plan: Plan,
    dataset: Dataset,
    before: State,
    counters: dict[str, int],
    started: float,
) -> RunSummary:
    """Settles the dataset, and counts every row once."""
    stops = stop_notes.read(dataset, job.run_id)
    after = settle.remove_replaced(dataset, scans, dataset.state())
    known = set(before.records)
    rows = settle.dataset_rows(scans, after)
    rows.check()
    summary = RunSummary(
        run_id=job.run_id,
        version=job.version,
        output=request.output.uri,
        seconds=time.monotonic() - started,
        dataset=rows,
        run=run_rows(plan.due_rows, [r for r in after.records if r not in known]),
        counts=_counts(counters),
        codes=_codes(counters),
        stop=_most_serious(stops),
        throttled_s=counters.get("throttled_ms", 0) / 1000,
        calls_sent=counters.get("calls_sent", 0),
        skipped_files=tuple(error.message for error in scans.unreadable),
        vanished_files=settle.vanished(dataset, scans, after),
        duplicate_ids=settle.duplicate_ids(dataset, after),
        limit_rows=request.input.limit_rows,
    )
    if plan.work or not settle.is_settled(dataset):
        settle.close(dataset, job, after, complete=rows.left == 0 and summary.stop is None)
        dataset.write_json(f"{SUMMARIES}/{job.run_id}.json", summary.to_json())
    stop_notes.clear(dataset)
    return summary


def _most_serious(stops: list[Stop]) -> Stop | None:
    return stops[0] if stops else None


def _counts(counters: dict[str, int]) -> CallCounts:
    names = {field.name for field in dataclasses.fields(CallCounts)}
    return CallCounts(**{name: value for name, value in counters.items() if name in names})


def _codes(counters: dict[str, int]) -> dict[str, int]:
    return {
        name.removeprefix("dead_"): value
        for name, value in sorted(counters.items())
        if name.startswith("dead_")
    }


@contextlib.contextmanager
def _service(service: ServiceConfig) -> Iterator[ServiceConfig]:
    """The service to call; starts the emulator where it is asked for."""
    if service.kind != "emulator":
        yield service
        return
    try:
        from emulator.server import EmulatorServer
    except ImportError as error:
        raise ConfigError(
            f"--emulator needs {error.name}; pip install 'bulkembed[emulator]'"
        ) from None
    with EmulatorServer() as server:
        yield dataclasses.replace(service, base_url=server.url)
