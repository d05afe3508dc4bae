from __future__ import annotations

import pytest

from bulkembed.schemas.prices import Price, price_of


@pytest.mark.parametrize(
    ("service", "model", "given", "price"),
    [
        ("developer", "gemini-embedding-001", None, Price(0.15, 0.075)),
        ("vertex", "models/gemini-embedding-2", None, Price(0.20, 0.10)),
        ("vertex", "text-embedding-005", None, None),
        ("developer", "an-unknown-model", None, None),
        ("emulator", "gemini-embedding-001", None, None),
        ("custom:a.example", "gemini-embedding-001", None, None),
        ("custom:a.example", "gemini-embedding-001", 3.0, Price(3.0, 1.5)),
        ("developer", "gemini-embedding-001", 0.1, Price(0.1, 0.05)),
    ],
)
def test_a_given_price_or_the_list_price_is_used(
    service: str, model: str, given: float | None, price: Price | None
) -> None:
    assert price_of(service, model, given) == price


def test_the_cost_of_tokens() -> None:
    assert Price(0.15, 0.075).usd(2_000_000) == pytest.approx(0.30)
    assert Price(0.15, 0.075).batch_usd(2_000_000) == pytest.approx(0.15)
