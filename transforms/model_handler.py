"""Gemini embeddings for Beam's RunInference."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Any

from apache_beam.ml.inference.base import ModelHandler

from bulkembed.schemas.errors import CallRejected
from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.job import EmbedderConfig
from bulkembed.transforms.adapter_form import content_of
from bulkembed.transforms.calls import metrics
from bulkembed.transforms.calls.embedder import Embedder, embedder_for, release
from bulkembed.transforms.embed_rows import fetch_settings
from bulkembed.transforms.media.fetching import MediaFetcher
from bulkembed.transforms.units.distinct_contents import RowFailure
from bulkembed.transforms.units.media_rows import FetchAhead
from bulkembed.transforms.units.row_texts import embed_texts

MIN_TEXTS = 100
MAX_TEXTS = 1000
"""How many contents RunInference passes to the model handler at once."""
NAME = "GeminiEmbeddings"
"""The name of the manager in Beam: `transform_name` of its dead letters, and in its metrics."""


class GeminiModel:
    """A user of the process's embedder until this object is deleted: Beam does not close models."""

    def __init__(self, config: EmbedderConfig, fetch: FetchSettings | None = None) -> None:
        self._config = config
        self._fetch = fetch
        self._join()

    def embedder(self) -> Embedder:
        """Return the embedder to use now; a stopped one is replaced."""
        if self._embedder.stop.is_set():
            self._end()
            self._join()
        return self._embedder

    @property
    def fetch(self) -> FetchAhead | None:
        """Reads files of media; None for a stage of texts."""
        return None if self._fetcher is None else self._fetcher.fetch_ahead

    def _join(self) -> None:
        self._embedder = embedder_for(self._config)
        media = self._config.embedding.media
        self._fetcher = None
        if media is not None:
            self._fetcher = MediaFetcher(fetch_settings(media, self._fetch), by_uri=media.by_uri)
        self._end = weakref.finalize(self, _release_aside, self._embedder, self._fetcher)
        self._end.atexit = False


def _release_aside(embedder: Embedder, fetcher: MediaFetcher | None) -> None:
    # Their own threads may drop the last reference, and they cannot end themselves.
    def close() -> None:
        release(embedder)
        if fetcher is not None:
            fetcher.close()

    threading.Thread(target=close, name="bulkembed-close").start()


class GeminiModelHandler(ModelHandler[Any, list[float], GeminiModel]):
    """Embeds contents for Beam's RunInference; a batch fails as a whole.

    Raises:
        CallRejected: a content of the batch cannot be embedded.
        CallError: the service rejects every request or is down, or the daily quota is spent.
    """

    def __init__(
        self,
        config: EmbedderConfig,
        min_texts: int = MIN_TEXTS,
        max_texts: int = MAX_TEXTS,
        fetch: FetchSettings | None = None,
    ) -> None:
        super().__init__(min_batch_size=min_texts, max_batch_size=max_texts)
        self._config = config
        self._fetch = fetch

    def load_model(self) -> GeminiModel:
        """Join the embedder of this process, or start it."""
        return GeminiModel(self._config, self._fetch)

    def run_inference(
        self,
        batch: Sequence[Any],
        model: GeminiModel,
        inference_args: dict[str, Any] | None = None,
    ) -> list[list[float]]:
        """Return one list of floats per content, in order."""
        rows = [content_of(value) for value in batch]
        embedder = model.embedder()
        results = embedder.loop.run(embed_texts(embedder, rows, model.fetch)).rows
        metrics.CallCounters(self.get_metrics_namespace()).add(embedder.take_counts())
        vectors = []
        for value, result in zip(batch, results, strict=True):
            if isinstance(result, RowFailure):
                shown = repr(value[:60] if isinstance(value, str | bytes) else value)[:80]
                raise CallRejected(f"{shown} cannot be embedded: {result.code}: {result.message}")
            vectors.append(result.tolist())
        return vectors

    def get_metrics_namespace(self) -> str:
        """Return the namespace of the metrics besides RunInference's own."""
        return NAME

    def __repr__(self) -> str:
        return NAME
