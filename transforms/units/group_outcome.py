"""The outcome of a group of small units: tables for all of them, and a record for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bulkembed.schemas.units import CallCounts, UnitRecord, count_codes
from bulkembed.transforms.core.vectors import Vector
from bulkembed.transforms.dataset.commit import UnitTables
from bulkembed.transforms.units.distinct_contents import RowFailure
from bulkembed.transforms.units.outcome import FinishedUnits, UnitOutcome
from bulkembed.transforms.units.prepare import SmallUnit


class GroupOutcome(UnitOutcome):
    """The outcome of each row of a group; each of its units is finished by itself."""

    def finish_units(self, *, whole: bool = False) -> list[FinishedUnits]:
        """Return what is to be committed together: first the group, then units with failed rows.

        These keep parts of their own, so that their failed rows can be retried.

        Args:
            whole: whether units of which only the first rows are finished are left out.
        """
        spans = list(self._spans(whole=whole))
        rows = [row for span in spans for row in span.rows]
        self._given_out.update(rows)
        means = self._means(rows)
        failed = self._failed_rows(set(rows))
        records = list(self._records(spans, failed))
        together = [at for at, record in enumerate(records) if not record.dead]
        alone = [[at] for at, record in enumerate(records) if record.dead]
        return [
            (
                tuple(records[at] for at in units),
                self._tables_of([row for at in units for row in spans[at].rows], means, failed),
            )
            for units in ([together] if together else []) + alone
        ]

    def _spans(self, *, whole: bool) -> Iterator[_Span]:
        """Yield the units with the offsets of their finished first rows, as far as there are."""
        first = 0
        for member in self._prepared.members:
            end = first + member.unit.rows
            rows = self._rows.finished_prefix(first, end)
            if rows and not (whole and rows < member.unit.rows):
                yield _Span(member, range(first, first + rows))
            first = end

    def _tables_of(
        self,
        rows: Sequence[int],
        means: Mapping[int, Vector | None],
        failed: Mapping[int, RowFailure],
    ) -> UnitTables:
        own = {row: failed[row] for row in rows if row in failed}
        vectors = self._vector_table(self._rows.embedded_rows(rows), means)
        return UnitTables(vectors, self._tables.dead_letters(own) if own else None)

    def _records(
        self, spans: Sequence[_Span], failed: Mapping[int, RowFailure]
    ) -> Iterator[UnitRecord]:
        embedded = [self._rows.embedded_rows(span.rows) for span in spans]
        for span, rows, counts in zip(spans, embedded, self._shares(embedded), strict=True):
            codes = [failed[row].code for row in span.rows if row in failed]
            skipped = sum(code.is_skip for code in codes)
            yield UnitRecord(
                unit=span.member.unit.part(span.member.unit.first_row, len(span.rows)),
                embedded=len(rows),
                dead=len(codes) - skipped,
                skipped=skipped,
                source_file=span.member.source_file,
                run_id=self._job.run_id,
                codes=count_codes(codes),
                counts=counts,
                vectors=self._vectors_of(rows),
                run_number=self._job.run_number,
                embedding_digest=self._job.digest,
            )

    def _vectors_of(self, rows: Sequence[int]) -> int:
        """Return how many rows with vectors are written for embedded rows."""
        if self._job.embedding.rows_are_passages:
            return sum(len(self._prepared.passages[row]) for row in rows)
        return len(rows)

    def _shares(self, embedded: Sequence[Sequence[int]]) -> Iterator[CallCounts]:
        """Yield the share of each unit in the counts of the group; they add up to these.

        Requests, texts and tokens are divided by how many texts the units were the first to need.
        """
        total = self._answers.counts(0)
        seen: set[int] = set(self._of_other_rows)
        new, repeated, reused = [], [], []
        for rows in embedded:
            items = [passage.item for row in rows for passage in self._prepared.passages[row]]
            own = [item for item in items if item not in self._reused]
            first = set(own) - seen
            seen |= first
            new.append(len(first))
            repeated.append(len(own) - len(first))
            reused.append(len(items) - len(own))
        if new and not any(new):
            new[0] = 1
        done, texts = 0, sum(new)
        for first_texts, again, known in zip(new, repeated, reused, strict=True):
            before, done = done, done + first_texts
            shares = {
                name: value * done // texts - value * before // texts
                for name, value in dataclasses.asdict(total).items()
            }
            yield dataclasses.replace(CallCounts(**shares), repeated=again, reused=known)


class _Span(NamedTuple):
    """A unit of a group, and the offsets of its finished first rows."""

    member: SmallUnit
    rows: range
