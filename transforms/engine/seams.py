"""The two seams of the caller: what makes vectors of texts, and where their fate is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.deadletters import DeadCode
from schemas.errors import CallError
from transforms.clients.decode import Answer
from transforms.core.packing import TextItem


class Client(Protocol):
    """What makes vectors of texts; see clients.gemini."""

    async def embed(self, items: Sequence[TextItem]) -> Answer:
        """The vectors of the texts, in their order."""

    async def count_tokens(self, text: str) -> int:
        """The service's own count of a text's tokens."""


class Sink(Protocol):
    """Where a text's fate is written down; a text that is never named stays undone."""

    def embedded(self, items: Sequence[TextItem], answer: Answer, attempts: int) -> None:
        """The texts have vectors."""

    def dead(self, item: TextItem, code: DeadCode, error: CallError, attempts: int) -> None:
        """The text is given up on."""
