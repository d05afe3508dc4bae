"""What the emulator answers to a single text, and which texts it was paid for."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bulkembed.emulator.calls import paid_keys
from bulkembed.emulator.media_rules import Modality
from bulkembed.emulator.rules import read_single
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.emulator.stats import Stats
from bulkembed.emulator.targets import Item, Target
from bulkembed.emulator.word_vectors import embed, words
from bulkembed.schemas.models import find_model
from chaos.history import Settings
from chaos.model import Floats


@dataclasses.dataclass
class Ledger(Stats):
    """The emulator's counts, and each text that it was paid for."""

    largest: int = 0
    """Texts of the largest paid call since it was last asked."""
    _new: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)

    def paid(
        self,
        keys: Iterable[int],
        texts: int,
        tokens: int,
        at: float,
        by_modality: Mapping[Modality, int] | None = None,
    ) -> None:
        """Texts that are answered, and so paid for."""
        keys = list(keys)
        super().paid(keys, texts, tokens, at, by_modality)
        self._new.update(keys)
        self.largest = max(self.largest, texts)

    def take(self) -> tuple[collections.Counter[int], int]:
        """What was paid for since it was asked last, and the texts of the largest call of it."""
        new, self._new = self._new, collections.Counter()
        largest, self.largest = self.largest, 0
        return new, largest


class EmulatorService:
    """The emulator's own functions, each text by itself."""

    def __init__(self) -> None:
        self._known: dict[tuple[Settings, str | None, str], tuple[Floats, int]] = {}

    def vector(self, settings: Settings, title: str | None, text: str) -> Floats:
        """The vector of a text, as the emulator sends it."""
        return self._answer(settings, title, text)[0]

    def key(self, settings: Settings, title: str | None, text: str) -> int:
        """What the emulator counts the text under."""
        return self._answer(settings, title, text)[1]

    def _answer(self, settings: Settings, title: str | None, text: str) -> tuple[Floats, int]:
        asked = (settings, title, text)
        if asked not in self._known:
            target = Target(find_model(settings.model), "embedContent", False, EmulatorSettings())
            item = read_single(target, _body(settings, title, text))
            self._known[asked] = (self._vector(target, item[0]), paid_keys(target, item)[0])
        return self._known[asked]

    def _vector(self, target: Target, item: Item) -> Floats:
        ids = words().token_ids([item.embedded], target.spec.max_tokens)
        return np.asarray(embed(target.spec, item.dim, [item.task], ids)[0], np.float64)


def _body(settings: Settings, title: str | None, text: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "content": {"parts": [{"text": text}]},
        "outputDimensionality": settings.dim,
    }
    if settings.model == "gemini-embedding-001":
        body["taskType"] = settings.task
    return body | ({"title": title} if title else {})
