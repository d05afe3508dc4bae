"""Counts the texts of units as a run would send them."""

from __future__ import annotations

import collections
import dataclasses
import heapq
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from bulkembed.schemas.embedding import LongText
from bulkembed.schemas.job import Dedupe, JobConfig
from bulkembed.schemas.units import SharedSlice
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.hashing import Keys, among, keys
from bulkembed.transforms.core.key_set import KeySet
from bulkembed.transforms.core.packing import CallCount, CallLimits
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset.committed_source import CommittedSource
from bulkembed.transforms.dataset.kept_answers import KeptAnswers
from bulkembed.transforms.dataset.known_vectors import known_hashes
from bulkembed.transforms.units.distinct_contents import Passage
from bulkembed.transforms.units.media_rows import FetchAhead
from bulkembed.transforms.units.prepare import PreparedUnit, has_unplanned_media
from bulkembed.transforms.units.shared_media import read_shared_media
from bulkembed.transforms.units.shared_texts import read_shared
from bulkembed.transforms.units.whole_texts import whole_hashes, with_whole_texts

LONGEST = 5
"""Number of longest texts to report."""


@dataclasses.dataclass(frozen=True, slots=True)
class SentCounts:
    """Texts, tokens and requests to send; can be added."""

    texts: int = 0
    tokens: int = 0
    calls: int = 0
    """A request is counted where its first text is."""
    billed: int = 0
    """The tokens of text that cost the same: media has other prices."""
    media_bytes: int = 0
    """What contents with media take in the file of a batch job."""

    def __add__(self, other: SentCounts) -> SentCounts:
        return SentCounts(
            self.texts + other.texts,
            self.tokens + other.tokens,
            self.calls + other.calls,
            self.billed + other.billed,
            self.media_bytes + other.media_bytes,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class UnitTally:
    """Counts of one unit."""

    rows: int
    blank: int
    unfit: int
    """Invalid rows: they cannot be sent for another reason than a blank text."""
    repeated: int
    """Texts that are not sent, because another row or an earlier run has the vector."""
    reused: int
    """How many of `repeated` have a vector from an earlier run or another dataset."""
    too_long: int
    """Rows whose texts are cut, or have more tokens than the model accepts (estimated)."""
    sent: SentCounts
    paid: int
    """Texts whose vectors an interrupted run has kept."""


@dataclasses.dataclass(frozen=True, slots=True)
class SharedTally:
    """Counts of the texts that several units share."""

    sent: SentCounts = SentCounts()
    texts: int = 0
    """Distinct texts. Units count all of their rows as duplicates."""
    paid: int = 0
    """Texts whose vectors an interrupted run has kept."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class LongestText:
    """One of the longest texts, with its place in the input."""

    tokens: int
    """Estimated; may exceed the maximum of the model."""
    characters: int
    file: str
    row: int


class Counter:
    """Counts the texts that a run would send.

    Args:
        job: the run.
        estimator: estimates tokens.
        limits: the limits of one request.
        kept: the answers that a killed run has paid for.
        committed: looks up media that is read; None if rows are texts alone.
    """

    def __init__(
        self,
        job: JobConfig,
        estimator: TokenEstimator,
        limits: CallLimits,
        kept: KeptAnswers,
        committed: CommittedSource | None = None,
    ) -> None:
        self._committed = committed
        self._job = job
        self._estimator = estimator
        self._calls = CallCount(limits)
        self._kept = kept
        self._known: set[bytes] = set()
        self._known_keys: Keys = np.empty(0, np.uint64)
        sees_units = job.embedding.media is not None and job.dedupe is Dedupe.RUN
        self._sent_by_units = KeySet() if sees_units else None
        """Contents whose files are read: units find that another one has sent them."""
        self.longest: list[LongestText] = []
        """The longest text first."""
        self.codes: collections.Counter[str] = collections.Counter()
        """Invalid rows by their code."""

    def know(self, hashes: Iterable[bytes]) -> None:
        """Remember texts that no unit needs to send."""
        self._known.update(hashes)

    def know_keys(self, known: Keys) -> None:
        """Remember texts that no unit needs to send by their keys, ascending and distinct."""
        self._known_keys = known

    def shared(self, slices: Iterable[SharedSlice], fetch: FetchAhead | None = None) -> SharedTally:
        """Count the texts that are sent before the units; `fetch` reads their media."""
        total, distinct, paid = SentCounts(), 0, 0
        job, estimator = self._job, self._estimator
        for one in slices:
            if fetch is None:
                read = read_shared(one.files, job.columns, job.embedding, estimator)
            else:
                read = read_shared_media(one.files, job, estimator, fetch)
            for texts in read:
                due = self._unpaid(texts.items)
                distinct += len(texts.items)
                paid += len(texts.items) - len(due)
                total += self._send(due)
                self.know(item.hash for item in texts.items)
        self._calls.end()
        return SharedTally(total, distinct, paid)

    def unit(self, prepared: PreparedUnit) -> UnitTally:
        """Count the rows and texts of a unit."""
        codes = [failure.code for failure in prepared.failed.values()]
        blank = sum(code.is_skip for code in codes)
        self.codes.update(str(code) for code in codes if not code.is_skip)
        tokens = [
            self._estimator.estimate_call(item.features) + item.media_tokens
            for item in prepared.items
        ]
        self._note_longest(prepared, tokens)
        too_long = sum(self._is_long(row, tokens) for row in prepared.passages)
        prepared = self._with_known_texts(prepared)
        known = self._known_to_runs(prepared)
        pairs = zip(prepared.items, known.tolist(), strict=True)
        new = [item for item, is_known in pairs if not (is_known or item.hash in self._known)]
        if self._sent_by_units is not None:
            wanted = keys([item.hash for item in new])
            is_sent = self._sent_by_units.has(wanted).tolist()
            self._sent_by_units.add(wanted)
            new = [item for item, sent in zip(new, is_sent, strict=True) if not sent]
        due = self._unpaid(new)
        reused = sum(known[passage.item] for row in prepared.passages for passage in row)
        return UnitTally(
            rows=prepared.unit.rows,
            blank=0 if prepared.retry_of else blank,  # A retry does not include them.
            unfit=len(codes) - blank,
            repeated=sum(map(len, prepared.passages)) - len(new),
            reused=int(reused),
            too_long=too_long,
            sent=self._send(due),
            paid=len(new) - len(due),
        )

    def _known_to_runs(self, prepared: PreparedUnit) -> npt.NDArray[np.bool_]:
        """Return which contents of a unit earlier runs or other datasets have."""
        wanted = keys([item.hash for item in prepared.items])
        known = among(wanted, self._known_keys)
        if self._committed is not None and has_unplanned_media(prepared):
            known |= among(wanted, self._committed.find(np.unique(wanted)).keys)
        return known

    def _with_known_texts(self, prepared: PreparedUnit) -> PreparedUnit:
        """Return a unit without the passages of long texts that are known as a whole."""
        hashes = list(whole_hashes(prepared, self._job.embedding).values())
        is_known = among(keys(hashes), self._known_keys)
        known = {one for one, found in zip(hashes, is_known.tolist(), strict=True) if found}
        return with_whole_texts(prepared, self._job.embedding, known)

    def _unpaid(self, items: Sequence[Content]) -> list[Content]:
        if not len(self._kept):
            return list(items)
        paid = known_hashes(self._kept, [item.hash for item in items])
        return [item for item in items if item.hash not in paid]

    def _send(self, items: Sequence[Content]) -> SentCounts:
        """Return what is sent for these texts, without texts that fail because of their length."""
        if self._job.embedding.long_text in (LongText.DEAD_LETTER, LongText.STOP):
            limit = self._job.embedding.spec.max_tokens
            items = [i for i in items if self._estimator.estimate_call(i.features) <= limit]
        tokens = sum(item.tokens for item in items)
        return SentCounts(
            len(items),
            tokens,
            self._calls.add(items),
            sum(item.billed_tokens for item in items),
            sum(item.body_bytes for item in items if item.media_tokens),
        )

    def _note_longest(self, prepared: PreparedUnit, tokens: Sequence[int]) -> None:
        first: dict[tuple[int, ...], int] = {}
        for offset, row in enumerate(prepared.passages):
            if row:
                first.setdefault(tuple(passage.item for passage in row), offset)
        sizes = {items: sum(tokens[item] for item in items) for items in first}
        for items in heapq.nlargest(LONGEST, sizes, key=sizes.__getitem__):
            offset = first[items]
            text = prepared.rows.texts[offset] or ""
            file, number = prepared.rows.source(offset, prepared.source_file)
            self.longest.append(LongestText(sizes[items], len(text), file, number))
        self.longest = heapq.nlargest(LONGEST, self.longest)

    def _is_long(self, row: Sequence[Passage], tokens: Sequence[int]) -> bool:
        """Return whether a row's text is cut, or has more tokens than the model accepts."""
        return len(row) > 1 or any(
            tokens[passage.item] > self._job.embedding.spec.max_tokens for passage in row
        )
