"""Elements that one of Beam's type adapters reads, and the contents that it finds in them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

from apache_beam.ml.rag.embeddings.base import create_text_adapter
from apache_beam.ml.rag.types import EmbeddableItem
from apache_beam.ml.transforms.base import EmbeddingTypeAdapter

from bulkembed.schemas.content_parts import ContentPart
from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaKind
from bulkembed.transforms.elements import Filled, Results, letter_of
from bulkembed.transforms.inputs.row_parts import MediaValue, RowPart
from bulkembed.transforms.inputs.rows import BadValue, checked_text
from bulkembed.transforms.media.media_refs import is_media_value
from bulkembed.transforms.units.distinct_contents import RowFailure
from bulkembed.transforms.units.row_texts import RowText


@dataclasses.dataclass(frozen=True, slots=True)
class AdapterForm:
    """Elements that a type adapter reads; an element fails as a whole.

    Args:
        adapter: reads the contents of an element, and fills in its vectors.
        columns: what the values are that the adapter finds, in their order: texts, or media of a
            kind. Empty if their own types say it; see `content_of`.
    """

    adapter: EmbeddingTypeAdapter
    columns: tuple[ContentPart, ...] = ()

    def texts(self, element: Any) -> list[RowText]:
        """Return the contents that the adapter finds; if it raises, one bad text that says why."""
        try:
            found = self.adapter.input_fn([element])
        except (TypeError, ValueError, RuntimeError) as error:
            return [RowText(None, None, (DeadCode.BAD_TEXT, str(error)))]
        if not self.columns:
            return [content_of(value) for value in found]
        return [
            _content([_media(part, value)] if part.kind else [value])
            for part, value in zip(self.columns, found, strict=True)
        ]

    def fill(self, element: Any, results: Results) -> Filled:
        """Return the adapter's output; the vectors are lists of floats."""
        for result in results:
            if isinstance(result, RowFailure):
                return None, [letter_of(element, result)]
        vectors = [result.tolist() for result in results if not isinstance(result, RowFailure)]
        # Beam's adapters change the element, which may be in use elsewhere.
        (out,) = self.adapter.output_fn([copy.copy(element)], vectors)
        return out, []

    def output_type(self, input_type: Any) -> Any:
        """Return Any, since an adapter does not declare its output type."""
        return Any


def item_adapter() -> EmbeddingTypeAdapter[EmbeddableItem, EmbeddableItem]:
    """Return the adapter for items of ml.rag with a text, an image, or a text and an image."""
    return EmbeddingTypeAdapter(_contents_of_items, create_text_adapter().output_fn)


def content_of(value: Any) -> RowText:
    """Return a content by the type of its value.

    A string is a text. Bytes, an object with `bytes` and `path`, and an image of Pillow are
    images. A list has several of these, which are sent together for one vector.
    """
    parts = value if isinstance(value, list | tuple) else [value]
    return _content([_image(part) if is_media_value(part) else part for part in parts])


def _content(values: Sequence[Any]) -> RowText:
    parts: list[RowPart] = []
    text: str | None = None
    try:
        for value in values:
            if isinstance(value, MediaValue):
                if value.value is not None:
                    parts.append(value)
                continue
            text = checked_text("the text", value)
            if text and not text.isspace():
                parts.append(text)
    except BadValue as error:
        return RowText(None, None, (error.code, str(error)))
    return RowText(None, text, None, tuple(parts))


def _media(part: ContentPart, value: Any) -> MediaValue:
    return MediaValue(part.kind or MediaKind.IMAGE, part.source, value)


def _image(value: Any) -> MediaValue:
    return MediaValue(MediaKind.IMAGE, "image", value)


def _contents_of_items(items: Sequence[EmbeddableItem]) -> list[Any]:
    return [_content_of_item(item) for item in items]


def _content_of_item(item: EmbeddableItem) -> Any:
    text, image = item.content.text, item.content.image
    if not text and not image:
        raise ValueError(f"{type(item).__name__} {item.id} has neither a text nor an image")
    media = [MediaValue(MediaKind.IMAGE, "content.image", image)] if image else []
    return [*([text] if text else []), *media]
