"""What a dataset has cost over its whole life, since it was made or overwritten.

Runs on this machine share an account in the dataset. All others write notes. Each request is
counted in one of the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.ledger_entry import BatchJob
from bulkembed.schemas.messages import content_noun, number_of
from bulkembed.schemas.models import ModelSpec
from bulkembed.schemas.prices import Price, price_of
from bulkembed.schemas.serialization import from_plain
from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.core.spending_lease import Spent
from bulkembed.transforms.core.token_account import TokenAccount
from bulkembed.transforms.dataset import atomic_files, spending_notes
from bulkembed.transforms.dataset.batch_ledger import BatchLedger
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import ACCOUNT, SUMMARIES
from bulkembed.transforms.dataset.spending_notes import SpendingTotal


@dataclasses.dataclass(frozen=True, slots=True)
class LifeSpending:
    """The tokens that a dataset has cost."""

    spent: Spent
    """By online requests, in all runs."""
    last_run: int | None
    """Tokens of online requests of the last run that sent or collected any; None if unknown."""
    batch: int = 0
    """By batch jobs that have ended."""
    last_run_batch: int = 0
    """How many of `batch` the last run collected."""
    batch_unconfirmed: int = 0
    """How many of `batch` are of jobs whose answers are lost."""


@dataclasses.dataclass(frozen=True, slots=True)
class LifeCost:
    """What a dataset has cost over its whole life, with its price."""

    tokens: int
    usd: float | None
    """By the configured or Google's price of today; None if not known."""
    unconfirmed_tokens: int
    """How many of `tokens` may not have been billed: the requests of killed runs, requests that
    failed without an answer, and batch jobs whose answers are lost."""
    last_run_tokens: int | None = None
    last_run_usd: float | None = None
    has_media: bool = False
    """Whether tokens of media count as the tokens of text that cost the same."""

    @classmethod
    def of(
        cls,
        spending: LifeSpending,
        price: Price | None,
        at_least: int = 0,
        *,
        has_media: bool = False,
    ) -> LifeCost:
        """Return the cost of what was spent.

        Args:
            spending: what was spent.
            price: of a token; None if not known.
            at_least: tokens that online requests are known to have cost, whatever the account says.
            has_media: whether some of the tokens may be of media.
        """
        tokens, last = max(spending.spent.tokens, at_least), spending.last_run
        batch, last_batch = spending.batch, spending.last_run_batch
        usd = last_usd = None
        if price is not None:
            usd = price.usd(tokens) + price.batch_usd(batch)
            last_usd = None if last is None else price.usd(last) + price.batch_usd(last_batch)
        return cls(
            tokens=tokens + batch,
            usd=usd,
            unconfirmed_tokens=spending.spent.unconfirmed + spending.batch_unconfirmed,
            last_run_tokens=None if last is None else last + last_batch,
            last_run_usd=last_usd,
            has_media=has_media,
        )

    @property
    def content_noun(self) -> str:
        """What was sent for a row, in messages."""
        return content_noun(has_media=self.has_media)

    def line(self, run: str) -> str:
        """Return the cost of one run and of all runs in one line.

        Args:
            run: what to call the one run, such as `this run`.
        """
        every = self._amount(self.tokens, self.usd)
        if self.last_run_tokens is None:
            return f"{every} in all runs"
        one = self._amount(self.last_run_tokens, self.last_run_usd)
        return one if one == every else f"{one} in {run}; {every} in all runs"

    def _amount(self, tokens: int, usd: float | None) -> str:
        unit = " at the price of text" if self.has_media else ""
        return number_of(tokens, "token") + unit + ("" if usd is None else f", {usd:,.4f} USD")

    def unconfirmed_line(self) -> str:
        """Return what is not certain about the cost; empty if all is."""
        if not self.unconfirmed_tokens:
            return ""
        return (
            f"up to {self.unconfirmed_tokens:,} of all tokens may not have been billed: the "
            f"answers to their {self.content_noun}s are lost"
        )


def pinned_noun(pinned: dict[str, Any]) -> str:
    """Return what is sent for a row, in messages, by the content of `run.json`."""
    return content_noun(has_media="media" in pinned["embedding"])


def pinned_price(pinned: dict[str, Any]) -> Price | None:
    """Return the price of a token by the content of `run.json`; None if not known."""
    embedding = pinned["embedding"]
    settings = pinned["settings"]
    own, factor = settings.get("usd_per_mtok"), settings.get("price_factor")
    return price_of(embedding["service"], embedding["model"], own, factor)


def read_life_spending(dataset: Dataset, ledger: BatchLedger | None = None) -> LifeSpending:
    """Return what a dataset has cost, also while a run is writing it.

    Args:
        dataset: the dataset.
        ledger: its batch jobs; None to read them.

    Raises:
        OutputError: the account or a note is damaged.
    """
    total, account = _noted(dataset), _read_account(dataset)
    jobs = (BatchLedger(dataset) if ledger is None else ledger).jobs
    last_run = max(account.run_number, total.last_run, *(job.run_number for job in jobs))
    return _life_spending(account, total, jobs, last_run)


def read_online_tokens(dataset: Dataset) -> int:
    """Return what online requests have cost, in all runs, also while one is writing the dataset.

    Raises:
        OutputError: the account or a note is damaged.
    """
    return (_read_account(dataset).spent + _noted(dataset).spent).tokens


def settle_life_spending(dataset: Dataset, run_number: int) -> LifeSpending:
    """Add the notes of a run that ends to the total, and return what the dataset has cost.

    Raises:
        OutputError: the account or a note is damaged, or cannot be written.
    """
    total = spending_notes.add_notes(dataset, run_number)
    return _life_spending(_read_account(dataset), total, BatchLedger(dataset).jobs, run_number)


def noted_spending(dataset: Dataset) -> Spent:
    """Return what is in notes, and not in the account.

    Raises:
        OutputError: a note is damaged.
    """
    return _noted(dataset).spent


def _noted(dataset: Dataset) -> SpendingTotal:
    total = spending_notes.read_total(dataset) or SpendingTotal()
    return total.with_notes(spending_notes.read_notes(dataset))


def billed_tokens(counts: CallCounts, spec: ModelSpec) -> int:
    """Return the tokens of text that cost the same as some requests."""
    return counts.tokens + spec.media_factors.surcharge(counts.media)


def summed_tokens(dataset: Dataset, spec: ModelSpec) -> int:
    """Return the billed tokens in the summaries of all runs; those of killed runs are missing."""
    found = 0
    for name in dataset.names(SUMMARIES):
        try:
            counts = (dataset.read_json(f"{SUMMARIES}/{name}") or {})["counts"]
            found += billed_tokens(from_plain(counts, CallCounts), spec)
        except (OutputError, KeyError, TypeError, ValueError):
            continue  # A damaged summary fails no run: what it says is shown, and nothing else.
    return found


def _life_spending(
    account: TokenAccount, total: SpendingTotal, jobs: Sequence[BatchJob], run_number: int
) -> LifeSpending:
    last_run: int | None = total.of_run(run_number)
    if account.run_number >= max(1, run_number):
        before = account.paid_before
        last_run = None if before is None else account.spent.tokens - before
    return LifeSpending(
        account.spent + total.spent,
        last_run,
        sum(job.paid_tokens for job in jobs),
        sum(job.paid_tokens for job in jobs if job.run_number == run_number),
        sum(job.unconfirmed for job in jobs),
    )


def _read_account(dataset: Dataset) -> TokenAccount:
    data = atomic_files.read_bytes(dataset.filesystem, dataset.path(ACCOUNT))
    try:
        return TokenAccount.from_bytes(data or b"")
    except (ValueError, TypeError) as error:
        raise dataset.damaged_file(ACCOUNT, str(error)) from None
