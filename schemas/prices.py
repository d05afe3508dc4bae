"""Prices of tokens in USD, and the budget of a dataset."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

from bulkembed.schemas.embedding import Service
from bulkembed.schemas.models import find_model

MTOK = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """USD per million input tokens: for online requests, and for the Batch API."""

    online: float
    batch: float

    def usd(self, tokens: float) -> float:
        """Return the cost of so many tokens for online requests."""
        return self.online * tokens / MTOK

    def batch_usd(self, tokens: float) -> float:
        """Return the cost of so many tokens for the Batch API."""
        return self.batch * tokens / MTOK


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """How much a dataset may cost, over all its runs."""

    usd: float
    """Above 0."""
    usd_per_mtok: float
    """Of online requests, above 0."""
    batch_usd: float = 0.0
    """What batch jobs have cost, and open ones can cost at most."""

    @property
    def tokens(self) -> int:
        """How many tokens of online requests the budget buys."""
        left = max(Decimal(0), Decimal(str(self.usd)) - Decimal(str(self.batch_usd)))
        return int(left * MTOK / Decimal(str(self.usd_per_mtok)))

    def spent_message(self) -> str:
        """Return the message of a run that the budget ends."""
        return (
            f"--max-cost-usd {self.usd:g} is reached: another request might exceed it. Raise the "
            "limit to resume."
        )


def price_of(
    service: str,
    model: str,
    usd_per_mtok: float | None = None,
    batch_factor: float | None = None,
) -> Price | None:
    """Return the given price, else Google's list price; None if neither is known.

    Args:
        service: the identity of the service; only Google's own have a list price.
        model: its name.
        usd_per_mtok: the given price for a million tokens.
        batch_factor: the price of batch jobs, as a part of the online price; None for the list
            price, or for half.
    """
    spec = find_model(model)
    online, batch = spec.price, spec.batch_price
    if usd_per_mtok is not None:
        online, batch = usd_per_mtok, None
    elif service not in (Service.DEVELOPER, Service.VERTEX):
        return None
    if online is None:
        return None
    if batch_factor is not None or batch is None:
        batch = online * (0.5 if batch_factor is None else batch_factor)
    return Price(online, batch)
