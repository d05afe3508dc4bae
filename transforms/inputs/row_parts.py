"""The parts of a row that are sent together: its texts, and the values of its media columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from bulkembed.schemas.content_parts import ContentPart
from bulkembed.schemas.media import MediaKind
from bulkembed.transforms.inputs.filesystems import Location
from bulkembed.transforms.inputs.text_recipe import TextRecipe


@dataclasses.dataclass(frozen=True, slots=True)
class MediaValue:
    """The value of a media column in one row, which is not null."""

    kind: MediaKind
    column: str
    value: Any = dataclasses.field(repr=False)
    """As Arrow or JSON has it; see `media.media_refs`."""
    place: str = ""
    """The column and the item of its list, in words, if it is one item of several."""
    base: Location | None = None
    """The folder of relative paths, if it is not that of the file."""

    @property
    def where(self) -> str:
        """Where it is in its row, for messages."""
        return self.place or f"column {self.column!r}"


RowPart: TypeAlias = str | MediaValue
"""A text as it is sent, or media."""


def size_of(part: RowPart) -> int:
    """Return about how many bytes of memory a part takes."""
    return _size(part if isinstance(part, str) else part.value)


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    if hasattr(value, "getbands"):  # An image of Pillow.
        return int(value.width * value.height * len(value.getbands()))
    return len(value) if isinstance(value, str | bytes | bytearray | memoryview) else 0


class PartReader:
    """Makes the parts of rows from the values of their columns."""

    def __init__(self, content: Sequence[ContentPart]) -> None:
        self._parts = [
            (part, None if part.kind else TextRecipe.of_template(part.source)) for part in content
        ]

    def parts(
        self, texts: Mapping[str, str | None], media: Mapping[str, Any]
    ) -> tuple[RowPart, ...]:
        """Return the parts of a row, in order; blank texts and null media are left out.

        Args:
            texts: the values of the columns of its texts.
            media: the values of its columns with media; a missing one counts as null.
        """
        found: list[RowPart] = []
        for part, recipe in self._parts:
            if recipe is not None:
                text = recipe.text(texts)
                if text and not text.isspace():
                    found.append(text)
            elif part.kind is not None and media.get(part.source) is not None:
                found.append(MediaValue(part.kind, part.source, media[part.source]))
        return tuple(found)
