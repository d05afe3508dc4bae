"""What a million tokens cost, in USD."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

from bulkembed.schemas.embedding import Service
from bulkembed.schemas.models import find_model

MTOK = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """USD for a million input tokens: by calls, and by the Batch API."""

    online: float
    batch: float

    def usd(self, tokens: float) -> float:
        """What so many tokens cost by calls."""
        return self.online * tokens / MTOK

    def batch_usd(self, tokens: float) -> float:
        """What so many tokens cost by the Batch API."""
        return self.batch * tokens / MTOK


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """What a dataset may cost, all of its runs together; both numbers are above 0."""

    usd: float
    usd_per_mtok: float

    @property
    def tokens(self) -> int:
        """The most tokens that cost no more than that."""
        return int(Decimal(str(self.usd)) * MTOK / Decimal(str(self.usd_per_mtok)))

    def spent_message(self) -> str:
        """The sentence for a run that ends so."""
        return (
            f"--max-cost-usd {self.usd:g} is reached: another call might cost more than is left of "
            "it; raise it to go on"
        )


def price_of(service: str, model: str, told: float | None = None) -> Price | None:
    """The price that was told, else Google's list price; None where neither is known.

    Args:
        service: the identity of the service.  Only Google's own have a known price.
        model: its name.
        told: USD for a million tokens; the Batch API takes half.
    """
    if told is not None:
        return Price(told, told / 2)
    spec = find_model(model)
    if spec.price is None or service not in (Service.DEVELOPER, Service.VERTEX):
        return None
    return Price(spec.price, spec.price / 2 if spec.batch_price is None else spec.batch_price)
