"""The stage that embeds the rows of one's own pipeline."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import enum
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.display import DisplayDataItem
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from bulkembed.schemas.dead_letters import DeadLetter
from bulkembed.schemas.embedding import EmbeddingConfig, LongText, ServiceConfig
from bulkembed.schemas.errors import CallRefused, ConfigError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.job import CallSettings, EmbedderConfig
from bulkembed.schemas.models import DEFAULT_MODEL, TaskType, bare_name
from bulkembed.schemas.quota import QuotaLimits
from bulkembed.transforms.calls import metrics
from bulkembed.transforms.clients.transport import service_from
from bulkembed.transforms.core.quota_limits import resolve_limits
from bulkembed.transforms.elements import Form, RowForm, rows_of

if TYPE_CHECKING:
    from bulkembed.transforms.calls.embedder import Embedder
    from bulkembed.transforms.units.row_texts import RowFates, RowText


Word = TypeVar("Word", bound=enum.StrEnum)


@dataclasses.dataclass(frozen=True, slots=True)
class Gemini:
    """Which vectors, of which service, under which quota; as the flags of `bulkembed run`.

    Checks itself when a stage is made of it.  Pickles; names where the key is, never holds it.
    `limits` None asks for those of Google's first paid tier, as the command does; they hold for all
    stages and processes of this host.
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

    def config(self, *, has_titles: bool = False) -> EmbedderConfig:
        """The checked configuration.

        Raises:
            ConfigError: the model does not take what is asked of it, or a word is unknown.
        """
        if self.long_text == LongText.STOP:
            raise ConfigError(
                "long_text 'stop' is for whole jobs: give 'dead-letter', and leave "
                "with_exception_handling() out, which fails the pipeline at such a text"
            )
        if self.long_text == LongText.PASSAGES:
            raise ConfigError(
                "long_text 'passages' is for whole jobs, since it makes several rows of one: give "
                "'mean', or cut the texts before this stage"
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


def _member(kind: type[Word], name: str, value: str) -> Word:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(kind)
        raise ConfigError(f"{name} {value!r}: give one of {allowed}") from None


LOSES_ROWS = "PrismRunner"
"""On it Beam's own GroupIntoBatches loses rows, with and without a limit of time.

Source: run with Beam 2.77.0, 2026-11: 700 rows in three windows, up to 500 of them missing.
"""


class Gather(beam.PTransform):
    """The same elements, up to `rows` of a window together, none of which waits longer than `s`.

    Windows and timestamps are kept.
    """

    def __init__(self, rows: int, longest_s: float) -> None:
        super().__init__()
        self._rows = rows
        self._longest_s = longest_s

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Keep elements in the runner's state, so that what waits there outlives a worker.

        Raises:
            ConfigError: the runner loses elements of such a group.
        """
        if type(elements.pipeline.runner).__name__ == LOSES_ROWS:
            raise ConfigError(
                "gather_s cannot be used with PrismRunner: its GroupIntoBatches (Beam 2.77) loses "
                "rows. Leave gather_s out, or choose another runner"
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
BATCHES_IN_FLIGHT = 8
"""Of a bundle: some 40 full calls, which keeps the default of 16 in the air."""


class EmbedElements(beam.PTransform):
    """Elements in, the same with vectors out; all that is not about their form.

    Args:
        config: which vectors, from where and how fast.
        form: how an element gives its texts and takes its vectors.
        gather_s: rows of several bundles go together, and wait for that many seconds at most.
    """

    def __init__(self, config: EmbedderConfig, form: Form, gather_s: float | None = None) -> None:
        super().__init__()
        self.config = config
        self.form = form
        self.gather_s = gather_s
        self._tags: tuple[str, str] | None = None

    def with_exception_handling(
        self, main_tag: str = "good", dead_letter_tag: str = "bad"
    ) -> EmbedElements:
        """Gives dead letters as a second output, `good, bad = rows | ...with_exception_handling()`.

        `bad` holds `DeadLetter`s.  Without it the first row that would be one
        fails the pipeline, so that no row is lost in silence.  Faults of the service are no row's.
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
        embed = beam.ParDo(EmbedElementsFn(self.config, self.form, dead_letters=dead is not None))
        emit = beam.ParDo(EmitFn(dead)).with_output_types(out)
        return (
            rows
            | "Embed" >> embed.with_output_types(Any if dead else out)
            | "Emit" >> (emit.with_outputs(dead, main=main) if dead else emit)
        )

    def display_data(self) -> dict[str, Any]:
        """What is asked of the service; no secret, and no path of one."""
        embedding, calls = self.config.embedding, self.config.calls
        return {
            "model": DisplayDataItem(embedding.spec.name, label="Model"),
            "service": DisplayDataItem(embedding.service, label="Service"),
            "task_type": DisplayDataItem(str(embedding.task_type), label="Task type"),
            "dim": DisplayDataItem(embedding.out_dim, label="Dimensions").drop_if_none(),
            "limits": DisplayDataItem(str(calls.limits), label="Quota"),
            "concurrency": DisplayDataItem(calls.concurrency, label="Most calls in the air"),
        }


class EmbedRows(EmbedElements):
    r"""Rows in, the same rows with a vector out, for a pipeline of one's own.

    Takes beam.Rows, NamedTuples, dicts, and Arrow RecordBatches and Tables, bounded or not.  A row
    gets a list of floats in `vector_column`; an Arrow batch a column, fixed-size lists of float32.
    Windows and timestamps are kept; the order is not promised.  A NamedTuple that has no
    such field becomes a beam.Row.

    One engine a process serves all stages of equal settings: its calls are full, many are in the
    air, and the quota of `gemini` is kept over all of them.  What a failed bundle has paid for is
    paid for again when the runner tries it again; for jobs whose answers must last, see EmbedUnits.

    Args:
        gemini: which vectors, from where and how fast.
        text_column: the field that is sent.
        text_template: or a text of several fields: `{title}\n\n{body}`.
        title_column: the title of each document; RETRIEVAL_DOCUMENT only.
        vector_column: the field that gets the vector; replaced where there is one.
        gather_s: on unbounded input bundles may hold one row each; rows of several then wait for
            each other up to that many seconds, so that calls are full.

    Raises:
        ConfigError: the settings do not go together, or the rows' type has no such field.
    """

    def __init__(
        self,
        gemini: Gemini | None = None,
        *,
        text_column: str | None = None,
        text_template: str | None = None,
        title_column: str | None = None,
        vector_column: str = "vector",
        gather_s: float | None = None,
    ) -> None:
        if text_template is None and text_column is None:
            text_column = "text"
        columns = InputColumns(None, text_column, text_template, title_column)
        config = (gemini or Gemini()).config(has_titles=title_column is not None)
        super().__init__(config, RowForm(columns, vector_column), gather_s)


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

    @property
    def full(self) -> bool:
        return len(self.texts) >= BATCH_ROWS or self.chars >= BATCH_CHARS


Flying = collections.deque[tuple[_Batch, "concurrent.futures.Future[RowFates]"]]


class EmbedElementsFn(beam.DoFn):
    """Gathers the elements of a bundle into batches and keeps several in the air.

    Plain twin: engine.row_texts.embed_texts.  Holds no key: `setup` finds it on the worker.

    Args:
        config: which vectors, from where and how fast.
        form: how an element gives its texts and takes its vectors.
        dead_letters: yield them among the elements; without it the first one is an error.
    """

    def __init__(self, config: EmbedderConfig, form: Form, *, dead_letters: bool) -> None:
        self._config = config
        self._form = form
        self._dead_letters = dead_letters
        self._embedder: Embedder | None = None
        self._calls = metrics.CallCounters(metrics.ROWS_NAMESPACE)
        self._batch = _Batch()
        self._flying: Flying = collections.deque()

    def setup(self) -> None:
        """Joins the embedder of this process, or starts it."""
        from bulkembed.transforms.calls.embedder import embedder_for

        self._embedder = embedder_for(self._config)

    def start_bundle(self) -> None:
        """Forgets what a failed bundle left, and an embedder that has stopped."""
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
        """Takes an element; yields those whose batch must make room."""
        value = WindowedValue(element, timestamp, (window,), pane)
        self._batch.add(value, self._form.texts(element))
        self._count(metrics.ROWS_IN, rows_of(element))
        if self._batch.full:
            yield from self._land(BATCHES_IN_FLIGHT - 1)
            self._start()

    def finish_bundle(self) -> Iterator[Any]:
        """Yields what is left, each element in its own window."""
        self._start()
        yield from self._land(0)

    def teardown(self) -> None:
        """Leaves the embedder; the last one to leave closes it."""
        from bulkembed.transforms.calls.embedder import release

        self._forget()
        if self._embedder is not None:
            release(self._embedder)
            self._embedder = None

    def _forget(self) -> None:
        """Gives up what is in the air: its bundle has failed, and nobody waits for it."""
        for _, future in self._flying:
            future.cancel()
        self._flying.clear()
        self._batch = _Batch()

    def _start(self) -> None:
        from bulkembed.transforms.units.row_texts import embed_texts

        if self._batch.elements and self._embedder is not None:
            work = embed_texts(self._embedder, self._batch.texts)
            self._flying.append((self._batch, self._embedder.loop.submit(work)))
            self._batch = _Batch()

    def _land(self, most: int) -> Iterator[Any]:
        """Waits for the oldest batches until at most so many are in the air."""
        while len(self._flying) > most:
            batch, future = self._flying.popleft()
            yield from self._settled(batch, future.result())
            if self._embedder is not None:
                self._calls.add(self._embedder.take_counts())

    def _settled(self, batch: _Batch, fates: RowFates) -> Iterator[Any]:
        for name in ("texts", "tokens", "repeated"):
            self._count(name, getattr(fates, name))
        at = 0
        for value, texts in batch.elements:
            good, letters = self._form.fill(value.value, fates.rows[at : at + texts])
            at += texts
            yield from self._dead(value, letters)
            if good is not None:
                self._count(metrics.ROWS_OUT, rows_of(good))
                yield value.with_value(good)

    def _dead(self, value: WindowedValue, letters: Iterable[DeadLetter]) -> Iterator[Any]:
        for letter in letters:
            if not self._dead_letters:
                raise CallRefused(
                    f"a row cannot be embedded: {letter.code}: {letter.message}; "
                    "with_exception_handling() gives such rows as a second output"
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
    """Pass elements on, and dead letters to the output of that tag.

    No output of a stage may come from `finish_bundle` directly: Beam hands the last batch to a
    consumer with `process_batch` (WriteToParquet, WriteToJson, to_dataframe) before it calls
    `finish_bundle` of the producer, and never hands over what is yielded there.  What this DoFn
    yields comes from `process`, and its consumers get their last batch later.  It is fused with
    the stage before it, so it costs one call an element.

    Source: DoOperation.finish in apache_beam/runners/worker/operations.py, 2.77.
    """

    def __init__(self, dead_tag: str | None) -> None:
        self._dead_tag = dead_tag

    def process(self, element: Any) -> Iterator[Any]:
        """Yield the element, or the dead letter that it holds."""
        if isinstance(element, _Dead):
            yield TaggedOutput(self._dead_tag, element.letter)
        else:
            yield element
