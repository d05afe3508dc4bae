"""Gemini embeddings for Beam's MLTransform and RAG tools."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInferenceDLQ
from apache_beam.ml.transforms.base import EmbeddingsManager, EmbeddingTypeAdapter

from bulkembed.schemas.content_parts import (
    ContentPart,
    check_switches,
    has_media,
    parse_column,
    parse_part,
)
from bulkembed.schemas.dead_letters import DeadLetter
from bulkembed.schemas.embedding import LongText
from bulkembed.schemas.errors import CallRejected, ConfigError
from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.schemas.models import find_model
from bulkembed.transforms.adapter_form import AdapterForm, item_adapter
from bulkembed.transforms.elements import Form, RowForm
from bulkembed.transforms.embed_rows import EmbedElements, Gemini
from bulkembed.transforms.model_handler import MAX_TEXTS, MIN_TEXTS, NAME, GeminiModelHandler


class GeminiEmbeddings(EmbeddingsManager):
    """An embeddings manager like Beam's VertexAITextEmbeddings, on bulkembed's engine.

    With `columns`, the named fields of dicts or beam.Rows become vectors, as lists of floats. With
    `content`, several fields are sent together for one vector. Without both, the elements are
    ml.rag's EmbeddableItems (Chunks) with a text, an image or both, whose embedding is filled in.

    With MLTransform's `with_exception_handling`, each element that fails is one dead letter. In
    Beam's other managers the whole batch fails.

    Args:
        gemini: the model, service and quota.
        columns: the fields that become vectors: texts, or media as in `image:photo`.
        type_adapter: reads and fills elements of other types. What it reads is a string
            for a text; bytes, `{bytes, path}` or an image of Pillow for an image; or a list of
            these, which are sent together.
        content: the parts of a row that are sent together, in order, as for `EmbedRows`:
            `["{title}", "image:photo"]`.
        vector_column: the field that gets the vector of `content`; without it, `vector`.
        media: how media is checked and prepared.
        fetch: how files of media are read.
        max_batch_size: the maximum number of texts in one request; at most what the service allows.
        min_batch_size: the minimum number of texts that RunInference passes to
            `get_model_handler()` at once. MLTransform fills requests with the texts there are.
        load_model_args, large_model, inference_args: every manager of Beam accepts these. They
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
        content: Sequence[str] = (),
        vector_column: str | None = None,
        media: MediaSettings | None = None,
        fetch: FetchSettings | None = None,
    ) -> None:
        parts = _parts(content, columns, type_adapter)
        if vector_column is not None and not content:
            raise ConfigError("vector_column needs content, such as content=['image:photo'].")
        if columns is None and type_adapter is None:
            type_adapter = item_adapter()
        super().__init__(
            columns=[f for one in parts for f in (one.fields if content else [one.source])] or None,
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
        self._form: Form = AdapterForm(self.type_adapter, parts)
        if content:
            self._form = RowForm(InputColumns(None, None, content=parts), vector_column or "vector")
        config = self.gemini.config(media=_media(self.gemini, parts, media))
        if fetch is not None and config.embedding.media is None:
            raise ConfigError("fetch needs media, such as columns=['image:photo'].")
        self._fetch = fetch
        texts = min(high, config.calls.texts)
        self._config = dataclasses.replace(
            config, calls=dataclasses.replace(config.calls, texts=texts)
        )

    def get_model_handler(self) -> ModelHandler:
        """Return a handler for RunInference; MLTransform does not use it.

        Its elements are what a type adapter may read: a string, an image, or a list of both.
        """
        return GeminiModelHandler(self._config, *self._batch_sizes, self._fetch)

    def get_ptransform_for_processing(self, **_: Any) -> beam.PTransform:
        """Return the stage of EmbedRows, with Beam's adapter instead of columns."""
        return EmbedAdapted(self._config, self._form, fetch=self._fetch)


def _parts(
    content: Sequence[str], columns: list[str] | None, adapter: EmbeddingTypeAdapter | None
) -> tuple[ContentPart, ...]:
    """Return the parts of a row, or the columns that become vectors.

    Raises:
        ConfigError: several of the arguments are given, or the content is texts alone.
    """
    given = (bool(content), columns is not None, adapter is not None)
    if sum(given) > 1:
        raise ConfigError("use content, columns or type_adapter, not several of them.")
    if not content:
        return tuple(map(parse_column, columns or ()))
    parts = tuple(map(parse_part, content))
    if not has_media(parts):
        raise ConfigError("content names no media. Use columns for texts.")
    return parts


def _media(
    gemini: Gemini, parts: Sequence[ContentPart], media: MediaSettings | None
) -> MediaSettings | None:
    """Return how media is prepared; None for a stage of texts.

    Raises:
        ConfigError: the settings have no effect.
    """
    if has_media(parts):
        media = media or MediaSettings()
        check_switches(parts, media)
    elif parts and media is not None:
        raise ConfigError("media needs a column with media, such as columns=['image:photo'].")
    elif not parts and media is None:
        # Items and adapters may have images wherever the model takes them.
        takes_media = find_model(gemini.model).takes_media
        if takes_media and gemini.long_text == LongText.TRUNCATE:
            media = MediaSettings()
    return media


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
