"""The stage that embeds the rows of your own pipeline."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.display import DisplayDataItem
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from bulkembed.schemas.content_parts import check_switches, has_media, parse_part
from bulkembed.schemas.dead_letters import DeadLetter
from bulkembed.schemas.embedding import EmbeddingConfig, LongText, ServiceConfig
from bulkembed.schemas.errors import CallRejected, ConfigError
from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.job import CallSettings, EmbedderConfig
from bulkembed.schemas.media_settings import LongMedia, MediaSettings, for_service
from bulkembed.schemas.models import DEFAULT_MODEL, TaskType, bare_name
from bulkembed.schemas.quota import QuotaLimits
from bulkembed.transforms.calls import metrics
from bulkembed.transforms.clients.transport import service_from
from bulkembed.transforms.core.quota_limits import resolve_limits
from bulkembed.transforms.elements import Form, RowForm, rows_of
from bulkembed.transforms.inputs.row_parts import size_of

if TYPE_CHECKING:
    from bulkembed.transforms.calls.embedder import Embedder
    from bulkembed.transforms.media.fetching import MediaFetcher
    from bulkembed.transforms.units.row_texts import EmbeddedRows, RowText


_Word = TypeVar("_Word", bound=enum.StrEnum)


@dataclasses.dataclass(frozen=True, slots=True)
class Gemini:
    """The model, service and quota of a stage; the same settings as the flags of `bulkembed run`.

    A stage checks these settings when it is made. They can be pickled, and name the place of the
    API key, never the key. Without `limits`, those of Google's first paid tier apply, as for the
    command. Limits hold for all stages and processes of this host together.
    """

    model: str = DEFAULT_MODEL
    task_type: TaskType | str = TaskType.RETRIEVAL_DOCUMENT
    dim: int | None = None
    normalize: bool = True
    long_text: LongText | str = LongText.TRUNCATE
    passage_tokens: int | None = None
    passage_overlap: int | None = None
    service: ServiceConfig = dataclasses.field(default_factory=service_from)
    limits: QuotaLimits | None = None
    concurrency: int = 16
    retry_timeout_s: float = 600.0
    quota_name: str | None = None
    rate_service: str | None = None

    def config(
        self, *, has_titles: bool = False, media: MediaSettings | None = None
    ) -> EmbedderConfig:
        """Return the checked configuration.

        Args:
            has_titles: whether texts have titles.
            media: how media is prepared; None for texts alone.

        Raises:
            ConfigError: the model does not support a setting, or a value is unknown.
        """
        if self.long_text == LongText.STOP:
            raise ConfigError(
                "long_text 'stop' works in `bulkembed run` only. Use 'dead-letter' without "
                "with_exception_handling(), which fails the pipeline at the first long text."
            )
        if media is not None:
            if media.long_media is LongMedia.PIECES:
                raise ConfigError(
                    "long_media 'pieces' works in `bulkembed run` only, since it makes several "
                    "rows of one. Use 'head', or cut the files before this stage."
                )
            media = for_service(media, vertexai=self.service.vertexai)
        if self.long_text == LongText.PASSAGES:
            raise ConfigError(
                "long_text 'passages' works in `bulkembed run` only, since it makes several rows "
                "of one. Use 'mean', or split the texts before this stage."
            )
        embedding = EmbeddingConfig(
            service=self.service.identity,
            model=self.model,
            task_type=_member(TaskType, "task_type", self.task_type),
            dim=self.dim,
            normalize=self.normalize,
            long_text=_member(LongText, "long_text", self.long_text),
            has_titles=has_titles,
            passage_tokens=self.passage_tokens,
            passage_overlap=self.passage_overlap,
            media=media,
        )
        limits = self.limits or resolve_limits(self.service.kind, bare_name(self.model))
        calls = CallSettings(
            limits=limits,
            concurrency=self.concurrency,
            retry_timeout_s=self.retry_timeout_s,
            quota_name=self.quota_name,
            rate_service=self.rate_service,
        )
        return EmbedderConfig(self.service, embedding, calls)


def _member(kind: type[_Word], name: str, value: str) -> _Word:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(kind)
        raise ConfigError(f"unknown {name} {value!r}. Allowed are {allowed}.") from None


LOSES_ROWS = "PrismRunner"
"""The runner on which Beam's GroupIntoBatches loses rows, with and without a time limit.

Source: run with Beam 2.77.0, 2026-11: 700 rows in three windows, up to 500 of them missing.
"""


class Gather(beam.PTransform):
    """Group elements of a window into bundles, and emit the same elements.

    Windows and timestamps are kept.

    Args:
        rows: the maximum number of elements that are emitted together.
        longest_s: how long an element waits at most for others.
    """

    def __init__(self, rows: int, longest_s: float) -> None:
        super().__init__()
        self._rows = rows
        self._longest_s = longest_s

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Keep waiting elements in the runner's state, where they survive the loss of a worker.

        Raises:
            ConfigError: the runner loses elements of such a group.
        """
        if type(elements.pipeline.runner).__name__ == LOSES_ROWS:
            raise ConfigError(
                "gather_s cannot be used with PrismRunner: its GroupIntoBatches (Beam 2.77) loses "
                "rows. Leave gather_s out, or choose another runner."
            )
        kind: Any = elements.element_type
        return (
            elements
            | "Stamp" >> beam.Map(_stamp).with_output_types(tuple[bytes, tuple[int, kind]])
            | "Group" >> beam.GroupIntoBatches.WithShardedKey(self._rows, self._longest_s)
            | "Spread" >> beam.FlatMap(_spread).with_output_types(kind)
        )


def _stamp(element: Any, timestamp: Any = beam.DoFn.TimestampParam) -> tuple[bytes, Any]:
    return b"", (timestamp.micros, element)


def _spread(batch: tuple[Any, Any]) -> list[TimestampedValue]:
    return [TimestampedValue(element, Timestamp(micros=micros)) for micros, element in batch[1]]


BATCH_ROWS = 500
BATCH_CHARS = 1_000_000
MEDIA_FACTOR = 8
"""How many bytes of media count as a character, so that a batch has about two full calls."""
BATCHES_IN_FLIGHT = 8
"""Batches of a bundle in flight: about 40 full calls, more than the default concurrency of 16."""


class EmbedElements(beam.PTransform):
    """Embed elements of any form; see `EmbedRows`.

    Args:
        config: the model, service and quota.
        form: how an element gives its texts and takes its vectors.
        gather_s: how many seconds rows wait at most for rows of other bundles; None for not at all.
        fetch: how files of media are read.
    """

    def __init__(
        self,
        config: EmbedderConfig,
        form: Form,
        gather_s: float | None = None,
        fetch: FetchSettings | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.form = form
        self.gather_s = gather_s
        self.fetch = fetch
        self._tags: tuple[str, str] | None = None

    def with_exception_handling(
        self, main_tag: str = "good", dead_letter_tag: str = "bad"
    ) -> EmbedElements:
        """Emit dead letters as a second output: `good, bad = rows | ...with_exception_handling()`.

        `bad` has `DeadLetter`s. Without this, the first row that cannot be embedded fails the
        pipeline, so that no row is lost silently. Failures of the service always fail the
        pipeline.
        """
        self._tags = (main_tag, dead_letter_tag)
        return self

    def expand(
        self, rows: beam.PCollection[Any]
    ) -> beam.PCollection[Any] | beam.pvalue.DoOutputsTuple:
        """Return one output, or two with `with_exception_handling`."""
        out = self.form.output_type(rows.element_type)
        if self.gather_s is not None:
            rows = rows | "Gather" >> Gather(BATCH_ROWS, self.gather_s)
        main, dead = self._tags or (None, None)
        embed = beam.ParDo(
            EmbedElementsFn(self.config, self.form, dead_letters=dead is not None, fetch=self.fetch)
        )
        emit = beam.ParDo(EmitFn(dead)).with_output_types(out)
        return (
            rows
            | "Embed" >> embed.with_output_types(Any if dead else out)
            | "Emit" >> (emit.with_outputs(dead, main=main) if dead else emit)
        )

    def display_data(self) -> dict[str, Any]:
        """Return the settings for the runner's display; no secret, and no path of one."""
        embedding, calls = self.config.embedding, self.config.calls
        return {
            "model": DisplayDataItem(embedding.spec.name, label="Model"),
            "service": DisplayDataItem(embedding.service, label="Service"),
            "task_type": DisplayDataItem(str(embedding.task_type), label="Task type"),
            "dim": DisplayDataItem(embedding.out_dim, label="Dimensions").drop_if_none(),
            "limits": DisplayDataItem(str(calls.limits), label="Quota"),
            "concurrency": DisplayDataItem(calls.concurrency, label="Maximum requests in flight"),
        }


class EmbedRows(EmbedElements):
    r"""Add a vector to each row of your own pipeline.

    The input is beam.Rows, NamedTuples, dicts, or Arrow RecordBatches and Tables, bounded or
    unbounded. A row gets a list of floats in `vector_column`. An Arrow batch gets a column of
    fixed-size lists of float32. A NamedTuple without such a field becomes a beam.Row. Windows and
    timestamps are kept; the order of rows may change.

    One engine per process serves all stages with equal settings. It fills its requests, keeps many
    in flight, and stays within the quota of `gemini` over all stages. If a bundle fails and the
    runner retries it, its texts are billed again. For jobs that must keep paid answers, see
    EmbedUnits.

    Args:
        gemini: the model, service and quota.
        text_column: the field with the text.
        text_template: or a text of several fields, such as `{title}\n\n{body}`.
        title_column: the field with the title of each document; RETRIEVAL_DOCUMENT only.
        content: or the parts of a row, in order, as for `--content`: `["{title}", "image:photo"]`.
            A part with media is bytes, a path, a URI, a data URI or base64.
        media: how media is checked and prepared, as by the flags of the same names.
        fetch: how files of media are read, such as
            `FetchSettings(allow_private_addresses=True)`.
        vector_column: the field that gets the vector; an existing field is replaced.
        gather_s: how many seconds rows wait at most for rows of other bundles. On unbounded input
            a bundle may have one row, and without this each row would be a request.

    Raises:
        ConfigError: the settings do not agree, or the type of the rows has no such field.
    """

    def __init__(
        self,
        gemini: Gemini | None = None,
        *,
        text_column: str | None = None,
        text_template: str | None = None,
        title_column: str | None = None,
        content: Sequence[str] = (),
        media: MediaSettings | None = None,
        fetch: FetchSettings | None = None,
        vector_column: str = "vector",
        gather_s: float | None = None,
    ) -> None:
        if text_template is None and text_column is None and not content:
            text_column = "text"
        parts = tuple(map(parse_part, content))
        if parts and not has_media(parts):
            raise ConfigError("content names no media. Use text_column or text_template for texts.")
        for name, given in (("media", media), ("fetch", fetch)):
            if given is not None and not parts:
                raise ConfigError(
                    f"{name} needs content with media, such as content=['image:photo']."
                )
        columns = InputColumns(None, text_column, text_template, title_column, content=parts)
        if parts:
            media = media or MediaSettings()
            check_switches(parts, media)
        config = (gemini or Gemini()).config(has_titles=title_column is not None, media=media)
        super().__init__(config, RowForm(columns, vector_column), gather_s, fetch)


@dataclasses.dataclass(slots=True)
class _Batch:
    """Elements that are embedded together, each with its window, and their texts."""

    elements: list[tuple[WindowedValue, int]] = dataclasses.field(default_factory=list)
    texts: list[RowText] = dataclasses.field(default_factory=list)
    chars: int = 0

    def add(self, element: WindowedValue, texts: list[RowText]) -> None:
        self.elements.append((element, len(texts)))
        self.texts.extend(texts)
        self.chars += sum(len(row.text or "") + len(row.title or "") for row in texts)
        self.chars += sum(size_of(part) for row in texts for part in row.parts) // MEDIA_FACTOR

    @property
    def is_full(self) -> bool:
        return len(self.texts) >= BATCH_ROWS or self.chars >= BATCH_CHARS


_InFlight = collections.deque[tuple[_Batch, "concurrent.futures.Future[EmbeddedRows]"]]


def fetch_settings(media: MediaSettings, fetch: FetchSettings | None) -> FetchSettings:
    """Return how files are read; how large they may be is a setting of media."""
    return dataclasses.replace(fetch or FetchSettings(), max_bytes=media.max_source_bytes)


class EmbedElementsFn(beam.DoFn):
    """Embeds the elements of a bundle in batches, of which several are in flight.

    The plain function `row_texts.embed_texts` does the work. `setup` reads the API key on the
    worker.

    Args:
        config: the model, service and quota.
        form: how an element gives its texts and takes its vectors.
        dead_letters: whether to yield dead letters among the elements; else the first one is an
            error.
        fetch: how files of media are read.
    """

    def __init__(
        self,
        config: EmbedderConfig,
        form: Form,
        *,
        dead_letters: bool,
        fetch: FetchSettings | None = None,
    ) -> None:
        self._config = config
        self._fetch = fetch
        self._form = form
        self._dead_letters = dead_letters
        self._embedder: Embedder | None = None
        self._calls = metrics.CallCounters(metrics.ROWS_NAMESPACE)
        self._batch = _Batch()
        self._in_flight: _InFlight = collections.deque()
        self._fetcher: MediaFetcher | None = None

    def setup(self) -> None:
        """Join the embedder of this process, or start it."""
        from bulkembed.transforms.calls.embedder import embedder_for

        self._embedder = embedder_for(self._config)
        media = self._config.embedding.media
        if media is not None and self._fetcher is None:
            from bulkembed.transforms.media.fetching import MediaFetcher

            self._fetcher = MediaFetcher(fetch_settings(media, self._fetch), by_uri=media.by_uri)

    def start_bundle(self) -> None:
        """Discard the state of a failed bundle, and an embedder that has stopped."""
        self._forget()
        if self._embedder is not None and self._embedder.stop.is_set():
            self.teardown()
            self.setup()

    def process(
        self,
        element: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
    ) -> Iterator[Any]:
        """Add an element to the batch; yield elements of finished batches when it is full."""
        value = WindowedValue(element, timestamp, (window,), pane)
        self._batch.add(value, self._form.texts(element))
        self._count(metrics.ROWS_IN, rows_of(element))
        if self._batch.is_full:
            yield from self._finish_batches(BATCHES_IN_FLIGHT - 1)
            self._start()

    def finish_bundle(self) -> Iterator[Any]:
        """Yield the remaining elements, each in its own window."""
        self._start()
        yield from self._finish_batches(0)

    def teardown(self) -> None:
        """Leave the embedder; the last user to leave closes it."""
        from bulkembed.transforms.calls.embedder import release

        self._forget()
        if self._fetcher is not None:
            self._fetcher.close()
            self._fetcher = None
        if self._embedder is not None:
            release(self._embedder)
            self._embedder = None

    def _forget(self) -> None:
        """Cancel the batches in flight: their bundle has failed, and nothing waits for them."""
        for _, future in self._in_flight:
            future.cancel()
        self._in_flight.clear()
        self._batch = _Batch()

    def _start(self) -> None:
        from bulkembed.transforms.units.row_texts import embed_texts

        if self._batch.elements and self._embedder is not None:
            fetch = None if self._fetcher is None else self._fetcher.fetch_ahead
            work = embed_texts(self._embedder, self._batch.texts, fetch)
            self._in_flight.append((self._batch, self._embedder.loop.submit(work)))
            self._batch = _Batch()

    def _finish_batches(self, max_in_flight: int) -> Iterator[Any]:
        """Yield the elements of the oldest batches, until at most `max_in_flight` remain."""
        while len(self._in_flight) > max_in_flight:
            batch, future = self._in_flight.popleft()
            yield from self._filled(batch, future.result())
            if self._embedder is not None:
                self._calls.add(self._embedder.take_counts())

    def _filled(self, batch: _Batch, results: EmbeddedRows) -> Iterator[Any]:
        for name in ("texts", "tokens", "repeated"):
            self._count(name, getattr(results, name))
        at = 0
        for value, texts in batch.elements:
            good, letters = self._form.fill(value.value, results.rows[at : at + texts])
            at += texts
            yield from self._dead(value, letters)
            if good is not None:
                self._count(metrics.ROWS_OUT, rows_of(good))
                yield value.with_value(good)

    def _dead(self, value: WindowedValue, letters: Iterable[DeadLetter]) -> Iterator[Any]:
        for letter in letters:
            if not self._dead_letters:
                raise CallRejected(
                    f"a row cannot be embedded: {letter.code}: {letter.message.rstrip('.')}. Use "
                    "with_exception_handling() to get such rows as a second output."
                )
            self._count(metrics.ROWS_DEAD, 1)
            self._count(metrics.DEAD_PREFIX + letter.code, 1)
            yield value.with_value(_Dead(letter))

    def _count(self, name: str, value: int) -> None:
        metrics.counter(name, metrics.ROWS_NAMESPACE).inc(value)


@dataclasses.dataclass(frozen=True, slots=True)
class _Dead:
    """A dead letter among the elements that EmbedElementsFn yields."""

    letter: DeadLetter


class EmitFn(beam.DoFn):
    """Pass on elements, and send dead letters to the output of that tag.

    No output of a stage may come from `finish_bundle` directly. Beam hands the last batch to a
    consumer with `process_batch` (WriteToParquet, WriteToJson, to_dataframe) before it calls
    `finish_bundle` of the producer, and drops what is yielded there. The output of this DoFn comes
    from `process`, before its consumers get their last batch. It is fused with the stage before
    it, so it costs one function call per element.

    Source: DoOperation.finish in apache_beam/runners/worker/operations.py, 2.77.
    """

    def __init__(self, dead_tag: str | None) -> None:
        self._dead_tag = dead_tag

    def process(self, element: Any) -> Iterator[Any]:
        """Yield the element, or the dead letter in it."""
        if isinstance(element, _Dead):
            yield TaggedOutput(self._dead_tag, element.letter)
        else:
            yield element
