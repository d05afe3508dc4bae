"""What batch jobs cost, and whether `--max-cost-usd` leaves room for another one."""

from __future__ import annotations

from bulkembed.pipeline.run.life_cost import read_online_tokens
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.schemas.ledger_entry import LedgerState
from bulkembed.schemas.prices import Budget
from bulkembed.transforms.dataset.batch_ledger import BatchLedger
from bulkembed.transforms.dataset.dataset import Dataset

_OPEN = (LedgerState.PLANNED, LedgerState.UPLOADED, LedgerState.CREATED)


def can_afford(
    request: RunRequest, dataset: Dataset, ledger: BatchLedger, tokens: int
) -> str | None:
    """Return why a job that costs at most so many tokens must not be created; None if it may.

    Open jobs count with what they can cost at most.

    Raises:
        OutputError: the account of the dataset is damaged.
    """
    budget, price = request.budget(), request.price()
    if budget is None or price is None:
        return None
    online = read_online_tokens(dataset)
    spent = price.usd(online) + price.batch_usd(paid_tokens(ledger) + open_tokens(ledger))
    if spent + price.batch_usd(tokens) <= budget.usd:
        return None
    return budget.spent_message()


def online_budget(request: RunRequest, ledger: BatchLedger) -> Budget | None:
    """Return what online requests may cost, with what batch jobs have cost taken off."""
    budget, price = request.budget(), request.price()
    if budget is None or price is None:
        return budget
    left = budget.usd - price.batch_usd(paid_tokens(ledger) + open_tokens(ledger))
    return Budget(max(left, 1e-9), budget.usd_per_mtok)


def paid_tokens(ledger: BatchLedger) -> int:
    """Return the tokens of all answers that were collected."""
    return sum(entry.counts.tokens for entry in ledger.jobs)


def open_tokens(ledger: BatchLedger) -> int:
    """Return how many tokens open jobs can cost at most."""
    return sum(entry.token_bound for entry in ledger.of_state(*_OPEN))
