"""`--max-cost-usd`: the account of a dataset, opened before a run begins."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from bulkembed.pipeline.run.placement import runs_on_this_machine
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.schemas.errors import ConfigError, OutputError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.calls.shared_quota import default_folder, secret_digest
from bulkembed.transforms.dataset import worker_notes
from bulkembed.transforms.dataset.account_file import AccountFile
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import ACCOUNT
from bulkembed.transforms.dataset.records import DatasetState


def add_account(request: RunRequest, job: JobConfig, dataset: Dataset) -> JobConfig:
    """The job with its budget, and the account that its processes keep.

    The account stands in the dataset; where that is on an object store, in this user's cache.

    Raises:
        ConfigError: there is a budget, and no price or no place for the account.
    """
    budget, here = request.budget(), runs_on_this_machine(request)
    if budget is not None and not here:
        raise ConfigError(
            "--max-cost-usd needs workers of this machine, which have an account in common; leave "
            "it out, or use --workers instead of another --runner"
        )
    path = None
    if here and not dataset.is_on_a_store:
        path = dataset.path(ACCOUNT)
    elif budget is not None:
        path = str(default_folder() / f"{secret_digest(request.output.uri)}.account.json")
    return dataclasses.replace(job, budget=budget, account=path)


def delete_account(job: JobConfig) -> None:
    """Delete the account of a dataset that is overwritten."""
    if job.account is not None:
        Path(job.account).unlink(missing_ok=True)


def start_account(job: JobConfig, dataset: Dataset, before: DatasetState) -> None:
    """Begins a run in the account: what earlier runs have paid, or may have paid, is spent.

    Raises:
        OutputError: there is a budget, and the account cannot be kept.
    """
    if job.account is None:
        return
    # Without a budget nothing hangs on it, and the first call will say what is wrong with it.
    unless_budget = contextlib.nullcontext() if job.budget else contextlib.suppress(OutputError)
    path = Path(job.account)
    with unless_budget, AccountFile(path).account() as account:
        known = committed_counts(dataset, before).tokens if job.budget else 0
        account.start_run(known, job.run_number)


def committed_counts(dataset: Dataset, state: DatasetState) -> CallCounts:
    """What the commit records say that their calls came to, shared texts with them."""
    records = dataset.read_records(state.records)
    return sum((record.counts for record in records), worker_notes.total_shared_counts(dataset))
