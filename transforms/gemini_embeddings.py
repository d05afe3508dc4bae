"""Gemini's vectors for Beam's own MLTransform and RAG tools."""

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
from bulkembed.schemas.errors import CallRefused, ConfigError
from bulkembed.schemas.job import EmbedderConfig
from bulkembed.transforms.calls import metrics
from bulkembed.transforms.calls.embedder import Embedder, embedder_for, release
from bulkembed.transforms.elements import AdapterForm
from bulkembed.transforms.embed_rows import EmbedElements, Gemini
from bulkembed.transforms.units.row_texts import GivenUp, RowText, embed_texts

LEAST_TEXTS = 100
MOST_TEXTS = 1000
"""How many texts RunInference hands to the model handler at once."""
NAME = "GeminiEmbeddings"
"""What Beam calls the manager: `transform_name` of its dead letters, and in its metrics."""


class GeminiEmbeddings(EmbeddingsManager):
    """An embeddings manager, as Beam's VertexAITextEmbeddings is one, over bulkembed's engine.

    With `columns` the named fields of dicts or beam.Rows become vectors, lists of floats.  Without
    them the elements are ml.rag's EmbeddableItems (Chunks), whose embedding is filled in.

    MLTransform's `with_exception_handling` makes dead letters of single elements; Beam's other
    managers fail a whole batch for its worst element.

    Args:
        gemini: which vectors, from where and how fast.
        columns: the fields whose texts become vectors.
        type_adapter: for elements of other types.
        max_batch_size: the most texts in one call, where the service takes more.
        min_batch_size: the fewest texts that RunInference hands to `get_model_handler()` at
            once; MLTransform packs as many texts into a call as there are.
        load_model_args, large_model, inference_args: taken as every manager of Beam takes them;
            they have no effect, because no model is loaded here.

    Raises:
        ConfigError: the settings do not go together.
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
        most = MOST_TEXTS if max_batch_size is None else max_batch_size
        least = min(LEAST_TEXTS, most) if min_batch_size is None else min_batch_size
        if not 1 <= least <= most:
            raise ConfigError(
                f"min_batch_size={min_batch_size} and max_batch_size={max_batch_size}: give "
                "numbers of texts from 1, the first not above the second"
            )
        self._handled = least, most
        self.gemini = gemini or Gemini()
        config = self.gemini.config()
        texts = min(most, config.calls.texts)
        self._config = dataclasses.replace(
            config, calls=dataclasses.replace(config.calls, texts=texts)
        )

    def get_model_handler(self) -> ModelHandler:
        """Return a handler for RunInference over plain strings; MLTransform does not use it."""
        return GeminiModelHandler(self._config, *self._handled)

    def get_ptransform_for_processing(self, **_: Any) -> beam.PTransform:
        """Return the stage of EmbedRows, with Beam's adapter in place of columns."""
        return EmbedAdapted(self._config, AdapterForm(self.type_adapter))


class EmbedAdapted(EmbedElements):
    """The stage as MLTransform wants it: its arguments, and dead letters of Beam's shape."""

    def with_exception_handling(  # type: ignore[override]
        self, *, exc_class: Any = Exception, use_subprocess: bool = False, threshold: float = 1
    ) -> EmbedAdapted:
        """Give elements that cannot be embedded as a second output.

        Raises:
            ConfigError: an argument is not the default one.
        """
        if (exc_class, use_subprocess, threshold) != (Exception, False, 1):
            raise ConfigError(
                "GeminiEmbeddings takes no exc_class, use_subprocess or threshold: an element "
                "becomes a dead letter only for its own sake; call with_exception_handling() "
                "without them"
            )
        self._tags = ("good", "bad")
        return self

    def annotations(self) -> dict[str, Any]:
        """Name the manager where MLTransform looks for the `transform_name` of dead letters."""
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
    return letter.element, (CallRefused, letter.message, [reason])


class GeminiModel:
    """A use of the process's embedder that ends with this object: Beam does not close models."""

    def __init__(self, config: EmbedderConfig) -> None:
        self._config = config
        self._join()

    def embedder(self) -> Embedder:
        """The one to use now: not one that has stopped."""
        if self._embedder.stop.is_set():
            self._end()
            self._join()
        return self._embedder

    def _join(self) -> None:
        self._embedder = embedder_for(self._config)
        self._end = weakref.finalize(self, _release_aside, self._embedder)
        self._end.atexit = False


def _release_aside(embedder: Embedder) -> None:
    # Whoever drops the last reference may be the embedder's own loop, which cannot end itself.
    threading.Thread(target=release, args=(embedder,), name="bulkembed-close").start()


class GeminiModelHandler(ModelHandler[str, list[float], GeminiModel]):
    """Strings to vectors for Beam's RunInference; a batch fails as a whole.

    Raises:
        CallRefused: a text of the batch cannot be embedded.
        CallError: the service refuses every call, is down, or the day's quota is spent.
    """

    def __init__(
        self, config: EmbedderConfig, least: int = LEAST_TEXTS, most: int = MOST_TEXTS
    ) -> None:
        super().__init__(min_batch_size=least, max_batch_size=most)
        self._config = config

    def load_model(self) -> GeminiModel:
        """Joins the embedder of this process, or starts it."""
        return GeminiModel(self._config)

    def run_inference(
        self,
        batch: Sequence[str],
        model: GeminiModel,
        inference_args: dict[str, Any] | None = None,
    ) -> list[list[float]]:
        """One list of floats a text, in their order."""
        rows = [RowText(None, text) for text in batch]
        embedder = model.embedder()
        fates = embedder.loop.run(embed_texts(embedder, rows)).rows
        metrics.CallCounters(self.get_metrics_namespace()).add(embedder.take_counts())
        vectors = []
        for text, fate in zip(batch, fates, strict=True):
            if isinstance(fate, GivenUp):
                raise CallRefused(f"{text[:60]!r} cannot be embedded: {fate.code}: {fate.message}")
            vectors.append(fate.tolist())
        return vectors

    def get_metrics_namespace(self) -> str:
        """Beside RunInference's own metrics."""
        return NAME

    def __repr__(self) -> str:
        return NAME
