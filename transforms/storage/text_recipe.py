"""How columns become a row's text and title."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Mapping, Sequence

from schemas.inputs import InputColumns


@dataclasses.dataclass(frozen=True)
class TextRecipe:
    """The columns that make a text, and how."""

    fields: tuple[str, ...]
    pieces: tuple[tuple[str, str | None], ...] = ()
    """Of a template: (words, the field after them or None); empty where one column is the text."""

    @classmethod
    def of(cls, columns: InputColumns) -> TextRecipe:
        """The recipe that the columns ask for."""
        if columns.text_template is None:
            return cls(columns.text_fields)
        parsed = string.Formatter().parse(columns.text_template)
        pieces = tuple((words, field) for words, field, _, _ in parsed)
        return cls(columns.text_fields, pieces)

    def text(self, values: Mapping[str, str | None]) -> str | None:
        """The text of one row; a null field of a template counts as "".

        None where the column, or every field of the template, is null or missing.
        """
        if not self.pieces:
            return values.get(self.fields[0])
        if all(values.get(field) is None for field in self.fields):
            return None
        parts: list[str] = []
        for words, field in self.pieces:
            parts.append(words)
            if field is not None:
                parts.append(values.get(field) or "")
        return "".join(parts)

    def texts(self, columns: Sequence[Sequence[str | None]]) -> list[str | None]:
        """The texts of many rows; `columns` has one sequence of values a field, in their order."""
        if not self.pieces:
            return list(columns[0])
        rows = zip(*columns, strict=True)
        return [self.text(dict(zip(self.fields, row, strict=True))) for row in rows]


def text_columns(columns: InputColumns) -> tuple[str, ...]:
    """The columns whose values are sent: the text's, and the title's."""
    title = (columns.title_column,) if columns.title_column is not None else ()
    return tuple(dict.fromkeys(columns.text_fields + title))
