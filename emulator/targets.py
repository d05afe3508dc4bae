"""What a request is about: the model and method of its URL, and the items that it embeds."""

from __future__ import annotations

import dataclasses

from bulkembed.emulator.answer_forms import AnswerForm
from bulkembed.emulator.media_parts import MediaPart
from bulkembed.emulator.media_uris import UriReader
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.models import ModelSpec

Parts = tuple[str | MediaPart, ...]
"""The parts of a content, in order."""


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One content of a call; each gets one vector."""

    sent: str
    """The words that count as tokens, with prefix and title."""
    embedded: str
    """The words that are embedded."""
    task: str
    dim: int
    truncate: bool = True
    parts: Parts = ()
    """The parts of a content with media; empty for a text."""


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The model and method that the URL names."""

    spec: ModelSpec
    method: str
    vertex: bool
    settings: EmulatorSettings
    uris: UriReader | None = None
    """Reads the files that a content names; None: there are none."""
    form: AnswerForm = AnswerForm.PRETTY
    """The form of the answer."""

    @property
    def max_texts(self) -> int:
        """The maximum texts of a batch on the Developer API; at most the model's own limit."""
        return min(self.spec.max_texts, self.settings.max_texts)

    @property
    def max_body_bytes(self) -> int:
        """The maximum bytes of a request body; at most the model's own limit."""
        return min(self.spec.max_body_bytes, self.settings.max_body_bytes)

    @property
    def max_media_body_bytes(self) -> int:
        """The maximum bytes of a request body that has media."""
        media_bytes = self.settings.media.body_bytes
        return media_bytes if self.spec.takes_media else self.max_body_bytes
