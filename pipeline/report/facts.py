"""The facts that a report shows, read from a dataset's records and a sample of its rows."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.report.reported_jobs import ReportedJobs
from bulkembed.pipeline.report.row_media import views_of, with_views
from bulkembed.pipeline.report.sample import (
    Sample,
    SampledText,
    draw_sample,
    input_columns,
    texts_of,
)
from bulkembed.pipeline.run.life_cost import billed_tokens
from bulkembed.pipeline.run.status import Status, status_of
from bulkembed.schemas.embedding import Service
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.ledger_entry import BatchJob
from bulkembed.schemas.models import find_model
from bulkembed.schemas.prices import Price, price_of
from bulkembed.schemas.units import CallCounts, UnitRecord
from bulkembed.transforms.dataset import part_files, run_file, worker_notes
from bulkembed.transforms.dataset.batch_ledger import BatchLedger
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import SUMMARIES
from bulkembed.transforms.dataset.records import RecordParts
from bulkembed.transforms.dataset.worker_notes import RunTimeline

EXAMPLES_PER_CODE = 3
MAX_RUNS = 50
EXAMPLE_COLUMNS = ("id", "source_file", "source_row", "code", "message", "text")


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """Tokens that were sent, and tokens that deduplication saved."""

    online_tokens: int
    """Of online requests for the committed rows."""
    batch_tokens: int
    """Of all batch jobs."""
    batch_billed_tokens: int
    """The tokens of text that cost as much as `batch_tokens`."""
    texts: int
    """How many texts had these tokens."""
    duplicates: int
    """Rows that needed no text of their own."""
    price: Price | None
    """The given price, else Google's list price whatever the service; None if neither is known."""
    billed_per_token: float = 1.0
    """How many tokens of text cost as much as one of the tokens, which may be of media."""

    @property
    def tokens(self) -> int:
        """The tokens that were sent."""
        return self.online_tokens + self.batch_tokens

    @property
    def saved(self) -> int:
        """The tokens that were not sent, if a duplicate has the mean length of the texts sent."""
        return round(self.tokens / self.texts * self.duplicates) if self.texts else 0

    def usd(self, tokens: int) -> float | None:
        """Return the price of some tokens, at the mean of those sent; None if it is not known."""
        if self.price is None:
            return None
        paid = self.price.usd(self.online_tokens * self.billed_per_token)
        paid += self.price.batch_usd(self.batch_billed_tokens)
        return paid / self.tokens * tokens if self.tokens else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class ReportFacts:
    """The facts about one dataset."""

    output: str
    embedding: dict[str, Any]
    version: str
    status: Status
    cost: Cost
    batch: ReportedJobs | None
    """None if it has no batch jobs."""
    runs: tuple[dict[str, Any], ...]
    """The summaries of the last runs, oldest first."""
    timeline: RunTimeline | None
    """The timeline of the last run that sent requests."""
    slow_units: tuple[UnitRecord, ...]
    """The units that took longest, the slowest first."""
    examples: tuple[dict[str, Any], ...]
    """Dead letters, a few of each code."""
    sample: Sample | None
    """Random rows; None if a part cannot be read."""
    texts: tuple[SampledText | None, ...]
    """The texts of the sampled rows."""
    shows_texts: bool = True
    """Whether excerpts of texts may be shown; if not, none is here."""


def read_facts(output: str, *, texts: bool = True, slow_units: int = 10) -> ReportFacts:
    """Read the facts about the dataset at a path or URI.

    Args:
        output: the dataset.
        texts: whether to read excerpts of texts.
        slow_units: how many of the slowest units to name.

    Raises:
        ConfigError: there is no dataset.
        OutputError: a record of it is damaged.
    """
    dataset = Dataset.open(output)
    pinned = run_file.read(dataset)
    records = dataset.read_records(dataset.state().records)
    ledger = BatchLedger(dataset)
    status = status_of(output, dataset, pinned, records, ledger)
    cost = _cost(status, pinned["settings"], ledger.jobs)
    sample = _sample(dataset, pinned, records, texts=texts)
    hides_ids = not texts and pinned["layout"]["text"] == pinned["layout"]["id_column"]
    if sample is not None and hides_ids:
        rows = (dataclasses.replace(row, id="") for row in sample.rows)
        sample = dataclasses.replace(sample, rows=tuple(rows))
    timed = [record for record in records if record.seconds]
    return ReportFacts(
        output=output,
        embedding=pinned["embedding"],
        version=pinned["bulkembed_version"],
        status=status,
        cost=cost,
        batch=ReportedJobs.of(ledger.jobs, cost.price, time.time()),
        runs=tuple(_runs(dataset)),
        timeline=_timeline(dataset),
        slow_units=tuple(sorted(timed, key=lambda record: -record.seconds)[:slow_units]),
        examples=tuple(
            example if texts else _without_texts(example, hides_ids=hides_ids)
            for example in _examples(dataset, records)
        ),
        sample=sample,
        texts=_texts(dataset, pinned, sample, texts=texts),
        shows_texts=texts,
    )


def _texts(
    dataset: Dataset, pinned: dict[str, Any], sample: Sample | None, *, texts: bool
) -> tuple[SampledText | None, ...]:
    if sample is None:
        return ()
    return tuple(texts_of(dataset, pinned, sample.rows)) if texts else (None,) * len(sample.rows)


def _without_texts(example: dict[str, Any], *, hides_ids: bool) -> dict[str, Any]:
    return {**example, "text": None, **({"id": None} if hides_ids else {})}


def _billed_per_token(status: Status) -> float:
    if not status.counts.tokens:
        return 1.0
    return billed_tokens(status.counts, find_model(status.model)) / status.counts.tokens


def _cost(status: Status, settings: dict[str, Any], jobs: Sequence[BatchJob]) -> Cost:
    batch = sum((job.counts for job in jobs), CallCounts())
    every = status.counts + batch
    given, factor = settings.get("usd_per_mtok"), settings.get("price_factor")
    return Cost(
        online_tokens=status.counts.tokens,
        batch_tokens=batch.tokens,
        batch_billed_tokens=sum(job.paid_tokens - job.unconfirmed for job in jobs),
        texts=every.texts,
        # Each row that took an answer of a job counts as repeated, and each answer as one less.
        duplicates=max(0, every.repeated) + every.reused,
        price=price_of(Service.DEVELOPER, status.model, given, factor),
        billed_per_token=_billed_per_token(status),
    )


def _runs(dataset: Dataset) -> list[dict[str, Any]]:
    # A run's id starts with its start time.
    names = dataset.names(SUMMARIES)[-MAX_RUNS:]
    return [content for name in names if (content := _summary(dataset, name)) is not None]


def _summary(dataset: Dataset, name: str) -> dict[str, Any] | None:
    """Return a run's summary; None, with a log line, if the file is not one."""
    try:
        content = dataset.read_json(f"{SUMMARIES}/{name}")
        return None if content is None else _checked(content)
    except OutputError as error:
        log.warning("%s", error.message)
    except (KeyError, TypeError, ValueError) as error:
        log.warning("%s", dataset.damaged_file(f"{SUMMARIES}/{name}", repr(error)).message)
    return None


def _checked(summary: dict[str, Any]) -> dict[str, Any]:
    """Return a summary, or raise one of the errors caught above if the page cannot show it."""
    rows, stop = summary["run"], summary["stop"]
    if stop is not None:
        stop["message"]
    numbers = [rows["embedded"], rows["dead"], rows["left"]]
    numbers += [summary[name] for name in ("seconds", "calls_sent", "calls_refused", "throttled_s")]
    # Summaries of earlier versions have no cost, and their requests lack what was not committed.
    cost = summary.get("cost") or {"last_run_tokens": None}
    paid = cost["last_run_tokens"]
    tokens = summary["counts"]["tokens"] if paid is None else paid
    numbers.append(tokens)
    if any(type(number) not in (int, float) for number in numbers):
        raise ValueError("not a number")
    return {**summary, "run_id": str(summary["run_id"]), "tokens": tokens}


def _timeline(dataset: Dataset) -> RunTimeline | None:
    try:
        return worker_notes.read_last_timeline(dataset)
    except OutputError as error:
        log.warning("%s", error.message)
        return None


def _sample(
    dataset: Dataset, pinned: dict[str, Any], records: Sequence[UnitRecord], *, texts: bool
) -> Sample | None:
    try:
        column = input_columns(pinned).text_column if texts else None
        if not pinned["layout"].get("media") or not texts:
            return draw_sample(dataset, records, column)
        found = draw_sample(dataset, records, None, media=True)
        return dataclasses.replace(
            found, rows=with_views(found.rows, views_of(dataset, pinned, found.rows))
        )
    except OutputError as error:
        log.warning("the report has no map of the corpus: %s", error.message)
        return None


def _examples(dataset: Dataset, records: Sequence[UnitRecord]) -> list[dict[str, Any]]:
    """Return a few dead letters of each code, opening as few parts as possible."""
    found: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    read = set()
    for record in records:
        wanted = {str(code) for code, _ in record.codes if len(found[code]) < EXAMPLES_PER_CODE}
        dead_letters = RecordParts.of(record).dead_letters
        if not dead_letters or not wanted or dead_letters in read:
            continue
        read.add(dead_letters)  # Units of a group have the same part.
        (name,) = dead_letters
        part = part_files.open_part(dataset, name)
        schema = part.schema_arrow
        columns = [name for name in EXAMPLE_COLUMNS if part_files.has_columns(schema, [name])]
        for block in part_files.read_blocks(part, name, columns):
            for at, code in enumerate(block.column("code").to_pylist()):
                if len(found[code]) < EXAMPLES_PER_CODE:
                    found[code] += block.slice(at, 1).to_pylist()
    return [row for code in sorted(found) for row in found[code]]
