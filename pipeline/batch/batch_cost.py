"""What batch jobs cost, and whether `--max-cost-usd` leaves room for another one."""

from __future__ import annotations

from bulkembed.pipeline.run.cost_cap import batch_tokens
from bulkembed.pipeline.run.life_cost import read_online_tokens
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.transforms.dataset.batch_ledger import BatchLedger
from bulkembed.transforms.dataset.dataset import Dataset


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
    spent = price.usd(online) + price.batch_usd(batch_tokens(ledger))
    if spent + price.batch_usd(tokens) <= budget.usd:
        return None
    return budget.spent_message()
