"""Texts about three things, no two of which have the same vector."""

from __future__ import annotations

TOPICS = (
    "the dog is ill and the vet of {} gives it pills",
    "the bank of {} sold its shares on the market",
    "sailors from {} steer the ship into the harbour",
)
PLACES = (
    "Athens", "Berlin", "Cairo", "Delhi", "Dublin", "Geneva", "Hanoi", "Helsinki", "Istanbul",
    "Jakarta", "Kyoto", "Lagos", "Lima", "Lisbon", "London", "Madrid", "Manila", "Milan", "Moscow",
    "Nairobi", "Oslo", "Paris", "Prague", "Rome", "Seoul", "Sydney", "Tokyo", "Vienna", "Warsaw",
    "Zurich",
)  # fmt: skip
TEXTS = [topic.format(place) for place in PLACES for topic in TOPICS]
