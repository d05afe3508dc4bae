"""`--max-cost-usd`: the cost account of a dataset, which a run opens before it sends anything."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from bulkembed.pipeline.run.life_cost import (
    billed_tokens,
    noted_spending,
    read_online_tokens,
    summed_tokens,
)
from bulkembed.pipeline.run.placement import runs_on_this_machine
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.schemas.errors import ConfigError, OutputError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.ledger_entry import LedgerState
from bulkembed.schemas.prices import Budget
from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.calls.shared_quota import default_folder, secret_digest
from bulkembed.transforms.dataset import spending_notes, worker_notes
from bulkembed.transforms.dataset.account_file import AccountFile
from bulkembed.transforms.dataset.batch_ledger import BatchLedger
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import ACCOUNT
from bulkembed.transforms.dataset.records import DatasetState

_OPEN = (LedgerState.PLANNED, LedgerState.UPLOADED, LedgerState.CREATED)


def add_account(request: RunRequest, job: JobConfig, dataset: Dataset) -> JobConfig:
    """Return the job with its budget, and the path of the account that its processes share.

    The account is in the dataset, or in the user's cache if the dataset is on an object store.

    Raises:
        ConfigError: there is a budget, but no price or no place for the account.
    """
    budget, is_local = online_budget(request, dataset), runs_on_this_machine(request)
    if budget is not None and not is_local:
        raise ConfigError(
            "--max-cost-usd works only if all workers are on this machine, where they share an "
            "account. Remove it, or use --workers instead of another --runner."
        )
    path = None
    if is_local and not dataset.is_on_a_store:
        path = dataset.path(ACCOUNT)
    elif budget is not None:
        path = str(default_folder() / f"{secret_digest(request.output.uri)}.account.json")
    return dataclasses.replace(job, budget=budget, account=path)


def online_budget(
    request: RunRequest, dataset: Dataset, ledger: BatchLedger | None = None
) -> Budget | None:
    """Return the budget of online requests, from which the cost of batch jobs is taken off.

    Args:
        request: the options.
        dataset: the output.
        ledger: its ledger; if it is None, and there is a budget, the ledger is read.
    """
    budget, price = request.budget(), request.price()
    if budget is None or price is None:
        return budget
    tokens = batch_tokens(BatchLedger(dataset) if ledger is None else ledger)
    return dataclasses.replace(budget, batch_usd=price.batch_usd(tokens))


def batch_tokens(ledger: BatchLedger) -> int:
    """Return the tokens that batch jobs have cost or can cost at most."""
    paid = sum(entry.paid_tokens for entry in ledger.jobs)
    return paid + sum(entry.token_bound for entry in ledger.of_state(*_OPEN))


def delete_account(job: JobConfig, dataset: Dataset) -> None:
    """Delete the account of a dataset that is overwritten, and the batch jobs that are done with.

    Answers of other jobs may still be of use, so their cost counts.
    """
    if job.account is not None:
        Path(job.account).unlink(missing_ok=True)
    ledger = BatchLedger(dataset)
    for entry in ledger.of_state(LedgerState.CLOSED, LedgerState.COLLECTED, LedgerState.FAILED):
        if not (entry.answers or entry.file or entry.results):
            ledger.drop(entry)


def start_account(job: JobConfig, dataset: Dataset, before: DatasetState) -> None:
    """Start a run in the account, with what earlier runs have or may have spent.

    Raises:
        OutputError: there is a budget, but the account cannot be written.
    """
    # Without a budget the account is optional, and the first request reports what is wrong.
    with contextlib.nullcontext() if job.budget else contextlib.suppress(OutputError):
        if spending_notes.keeps_notes(dataset, job):
            spending_notes.start_total(
                dataset, job.run_number, lambda: _known_tokens(dataset, before, job)
            )
        if job.account is not None:
            _start_run(AccountFile(Path(job.account)), job, dataset, before)


def _start_run(file: AccountFile, job: JobConfig, dataset: Dataset, before: DatasetState) -> None:
    with file.account() as account:
        if dataset.is_on_a_store:  # The account is that of this host, and the notes are of all.
            known = read_online_tokens(dataset)
        elif job.budget or not account.run_number:
            known = _known_tokens(dataset, before, job) - noted_spending(dataset).tokens
        else:
            known = 0
        account.start_run(known, job.run_number)


def _known_tokens(dataset: Dataset, before: DatasetState, job: JobConfig) -> int:
    """Return what the dataset has cost at least, by its records and summaries."""
    spec = job.embedding.spec
    committed = billed_tokens(committed_counts(dataset, before), spec)
    return max(committed, summed_tokens(dataset, spec))


def committed_counts(dataset: Dataset, state: DatasetState) -> CallCounts:
    """Return the totals of all requests in the commit records, with those of shared texts."""
    records = dataset.read_records(state.records)
    return sum((record.counts for record in records), worker_notes.total_shared_counts(dataset))
