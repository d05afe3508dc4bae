"""Gemini embeddings for Beam's MLTransform and RAG tools."""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInferenceDLQ
from apache_beam.ml.rag.embeddings.base import create_text_adapter
from apache_beam.ml.transforms.base import EmbeddingsManager, EmbeddingTypeAdapter

from bulkembed.schemas.dead_letters import DeadLetter
from bulkembed.schemas.errors import CallRejected, ConfigError
from bulkembed.schemas.job import EmbedderConfig
from bulkembed.transforms.calls import metrics
from bulkembed.transforms.calls.embedder import Embedder, embedder_for, release
from bulkembed.transforms.elements import AdapterForm
from bulkembed.transforms.embed_rows import EmbedElements, Gemini
from bulkembed.transforms.units.distinct_contents import RowFailure
from bulkembed.transforms.units.row_texts import RowText, embed_texts

MIN_TEXTS = 100
MAX_TEXTS = 1000
"""How many texts RunInference passes to the model handler at once."""
NAME = "GeminiEmbeddings"
"""The name of the manager in Beam: `transform_name` of its dead letters, and in its metrics."""


class GeminiEmbeddings(EmbeddingsManager):
    """An embeddings manager like Beam's VertexAITextEmbeddings, on bulkembed's engine.

    With `columns`, the named fields of dicts or beam.Rows become vectors, as lists of floats.
    Without, the elements are ml.rag's EmbeddableItems (Chunks), whose embedding is filled in.

    With MLTransform's `with_exception_handling`, each element that fails is one dead letter.  In
    Beam's other managers the whole batch fails.

    Args:
        gemini: the model, service and quota.
        columns: the fields whose texts become vectors.
        type_adapter: reads and fills elements of other types.
        max_batch_size: the maximum number of texts in one request; at most what the service allows.
        min_batch_size: the minimum number of texts that RunInference passes to
            `get_model_handler()` at once.  MLTransform fills requests with the texts there are.
        load_model_args, large_model, inference_args: every manager of Beam accepts these.  They
            have no effect, because no model is loaded here.

    Raises:
        ConfigError: the settings do not agree.
    """

    def __init__(
        self,
        gemini: Gemini | None = None,
        *,
        columns: list[str] | None = None,
        type_adapter: EmbeddingTypeAdapter | None = None,
        load_model_args: dict[str, Any] | None = None,
        min_batch_size: int | None = None,
        max_batch_size: int | None = None,
        large_model: bool = False,
        inference_args: dict[str, Any] | None = None,
    ) -> None:
        if columns is None and type_adapter is None:
            type_adapter = create_text_adapter()
        super().__init__(
            columns=columns,
            type_adapter=type_adapter,
            load_model_args=load_model_args,
            min_batch_size=min_batch_size,
            max_batch_size=max_batch_size,
            large_model=large_model,
            inference_args=inference_args or {},
        )
        high = MAX_TEXTS if max_batch_size is None else max_batch_size
        low = min(MIN_TEXTS, high) if min_batch_size is None else min_batch_size
        if not 1 <= low <= high:
            raise ConfigError(
                f"min_batch_size={min_batch_size} and max_batch_size={max_batch_size}: both must "
                "be at least 1, and the first must not exceed the second."
            )
        self._batch_sizes = low, high
        self.gemini = gemini or Gemini()
        config = self.gemini.config()
        texts = min(high, config.calls.texts)
        self._config = dataclasses.replace(
            config, calls=dataclasses.replace(config.calls, texts=texts)
        )

    def get_model_handler(self) -> ModelHandler:
        """Return a handler for RunInference on plain strings; MLTransform does not use it."""
        return GeminiModelHandler(self._config, *self._batch_sizes)

    def get_ptransform_for_processing(self, **_: Any) -> beam.PTransform:
        """Return the stage of EmbedRows, with Beam's adapter instead of columns."""
        return EmbedAdapted(self._config, AdapterForm(self.type_adapter))


class EmbedAdapted(EmbedElements):
    """The stage with the arguments that MLTransform passes, and dead letters as Beam has them."""

    def with_exception_handling(  # type: ignore[override]
        self, *, exc_class: Any = Exception, use_subprocess: bool = False, threshold: float = 1
    ) -> EmbedAdapted:
        """Emit elements that cannot be embedded as a second output.

        Raises:
            ConfigError: an argument is not the default one.
        """
        if (exc_class, use_subprocess, threshold) != (Exception, False, 1):
            raise ConfigError(
                "GeminiEmbeddings takes no exc_class, use_subprocess or threshold, since an "
                "element becomes a dead letter only if it cannot be embedded itself. Call "
                "with_exception_handling() without them."
            )
        self._tags = ("good", "bad")
        return self

    def annotations(self) -> dict[str, Any]:
        """Return the manager's name, which MLTransform uses as `transform_name` of dead letters."""
        return {"model_handler": NAME, **super().annotations()}

    def expand(self, rows: beam.PCollection[Any]) -> Any:
        """Return one output, or two: the second has (element, (class, message, reason)).

        The second is a RunInferenceDLQ, the only form whose dead letters MLTransform names.
        """
        out = super().expand(rows)
        if self._tags is None:
            return out
        good, bad = out
        return good, RunInferenceDLQ(bad | "AsBeam" >> beam.Map(_as_beam), [], [])


def _as_beam(letter: DeadLetter) -> tuple[Any, tuple[type, str, list[str]]]:
    reason = f"{letter.code}, HTTP status {letter.http_status}, attempts {letter.attempts}"
    return letter.element, (CallRejected, letter.message, [reason])


class GeminiModel:
    """A user of the process's embedder until this object is deleted: Beam does not close models."""

    def __init__(self, config: EmbedderConfig) -> None:
        self._config = config
        self._join()

    def embedder(self) -> Embedder:
        """Return the embedder to use now; a stopped one is replaced."""
        if self._embedder.stop.is_set():
            self._end()
            self._join()
        return self._embedder

    def _join(self) -> None:
        self._embedder = embedder_for(self._config)
        self._end = weakref.finalize(self, _release_aside, self._embedder)
        self._end.atexit = False


def _release_aside(embedder: Embedder) -> None:
    # The embedder's own loop may drop the last reference, and it cannot end itself.
    threading.Thread(target=release, args=(embedder,), name="bulkembed-close").start()


class GeminiModelHandler(ModelHandler[str, list[float], GeminiModel]):
    """Embeds strings for Beam's RunInference; a batch fails as a whole.

    Raises:
        CallRejected: a text of the batch cannot be embedded.
        CallError: the service rejects every request or is down, or the daily quota is spent.
    """

    def __init__(
        self, config: EmbedderConfig, min_texts: int = MIN_TEXTS, max_texts: int = MAX_TEXTS
    ) -> None:
        super().__init__(min_batch_size=min_texts, max_batch_size=max_texts)
        self._config = config

    def load_model(self) -> GeminiModel:
        """Join the embedder of this process, or start it."""
        return GeminiModel(self._config)

    def run_inference(
        self,
        batch: Sequence[str],
        model: GeminiModel,
        inference_args: dict[str, Any] | None = None,
    ) -> list[list[float]]:
        """Return one list of floats per text, in order."""
        rows = [RowText(None, text) for text in batch]
        embedder = model.embedder()
        results = embedder.loop.run(embed_texts(embedder, rows)).rows
        metrics.CallCounters(self.get_metrics_namespace()).add(embedder.take_counts())
        vectors = []
        for text, result in zip(batch, results, strict=True):
            if isinstance(result, RowFailure):
                raise CallRejected(
                    f"{text[:60]!r} cannot be embedded: {result.code}: {result.message}"
                )
            vectors.append(result.tolist())
        return vectors

    def get_metrics_namespace(self) -> str:
        """Return the namespace of the metrics besides RunInference's own."""
        return NAME

    def __repr__(self) -> str:
        return NAME
