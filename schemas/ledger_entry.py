"""The entry of a batch job in the ledger of a dataset."""

from __future__ import annotations

import dataclasses
import enum

from bulkembed.schemas.media import NO_MEDIA, MediaTokens
from bulkembed.schemas.serialization import Count
from bulkembed.schemas.units import CallCounts


class LedgerState(enum.StrEnum):
    """How far a batch job is, as the ledger has it."""

    PLANNED = "planned"
    """Its file may have been uploaded; the job was not created."""
    UPLOADED = "uploaded"
    """Its file is uploaded; the job may have been created."""
    CREATED = "created"
    """The job exists; its name is known."""
    COLLECTED = "collected"
    """Its answers are in the dataset's folder; files at the service may be left."""
    FAILED = "failed"
    """It gave no answers: its texts go into another job."""
    CLOSED = "closed"
    """Its answers are committed or not needed, and nothing is left at the service."""


@dataclasses.dataclass(frozen=True, slots=True)
class BatchJob:
    """The ledger's entry of a batch job.

    It is written before the service is asked: the display name first, so that a job whose creation
    got no answer can be found again.
    """

    display_name: str
    """Unique; also the name of its files in the dataset and at the service."""
    state: LedgerState
    rows: Count
    """Its texts."""
    tokens: Count
    """Estimated."""
    token_bound: Count
    """What it can cost at most, in tokens of text."""
    file_bytes: Count
    contents: str
    """The digest of the hashes of its texts."""
    embedding_digest: str
    """The digest of the settings of its vectors."""
    planned_at: float
    """Epoch seconds."""
    run_number: Count = 0
    """The number of the run that collected it."""
    file: str = ""
    """The uploaded file at the service."""
    job: str = ""
    """The name of the job at the service."""
    results: tuple[str, ...] = ()
    """The files with its results at the service."""
    tried_at: float | None = 0.0
    """When the service was last asked to create it; None if it was not, 0 if that is not known."""
    created_at: float | None = None
    ended_at: float | None = None
    """When its answers were collected, or it failed."""
    reason: str = ""
    """Why it gave no answers, in the service's words."""
    counts: CallCounts = dataclasses.field(default_factory=CallCounts)
    """What it cost: texts and tokens that were answered."""
    unconfirmed: Count = 0
    """Tokens that it may have cost besides, because its answers are lost."""
    failed: Count = 0
    """Texts that the service rejected: their rows become dead letters."""
    missing: Count = 0
    """Texts that got no answer, and are sent again."""
    answers: str = ""
    """The file with its vectors, within the dataset; empty if it has none."""
    media: MediaTokens = NO_MEDIA
    """How many of `tokens` are of media."""
    surcharge: Count = 0
    """What the media of all its texts costs above its own tokens, in tokens of text."""

    @property
    def is_damaged(self) -> bool:
        """Whether its file was damaged: only its name is left, and the number of its texts."""
        return not self.planned_at

    @property
    def billed_tokens(self) -> int:
        """The estimated cost of all its texts, in tokens of text."""
        return self.tokens + self.surcharge

    @property
    def paid_tokens(self) -> int:
        """What it has cost at most, in tokens of text; 0 as long as it is open."""
        answered = self.surcharge * self.counts.tokens / max(1, self.tokens)
        return self.counts.tokens + round(answered) + self.unconfirmed

    def media_of(self, tokens: int) -> MediaTokens:
        """Return about how many of some of its tokens are of media."""
        share = tokens / max(1, self.tokens)
        media = self.media
        return MediaTokens(*(round(share * n) for n in (media.image, media.audio, media.video)))
