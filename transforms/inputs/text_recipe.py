"""How columns become a row's text and title."""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Mapping, Sequence

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns

ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
"""What follows a backslash in `--text-template`, and the character that both stand for."""
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)


def decode_template(typed: str) -> str:
    r"""Return the template that `--text-template` means: `\n` is a line break, and so on.

    The shell, the environment and a YAML string in single quotes hand `\n` over as two characters,
    a YAML string in double quotes as a line break; after decoding all of them are equal.

    Raises:
        ConfigError: a backslash is followed by something that is not in ESCAPES.
    """

    def character(match: re.Match[str]) -> str:
        if match[1] not in ESCAPES:
            raise ConfigError(
                f"--text-template '{typed}': '{match[0]}' is no escape; known are \\n (line "
                "break), \\t (tab), \\r (carriage return) and \\\\ (a backslash): write "
                f"'\\{match[0]}' for a backslash"
                + (f" before '{match[1]}'" if match[1] else " at the end")
            )
        return ESCAPES[match[1]]

    return _ESCAPE.sub(character, typed)


def encode_template(template: str) -> str:
    """Return what `--text-template` takes for a template; the inverse of `decode_template`."""
    return template.replace("\\", "\\\\")


def has_undecoded_escapes(template: str) -> bool:
    r"""Return whether a template holds `\n`, `\t` or `\r` as two characters.

    Versions that did not decode them made such templates out of what was typed.
    """
    return re.search(r"\\[ntr]", template) is not None


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

        None where the column, or every field of the template, is null or missing; "" where every
        field is blank: the words between the fields alone are no text.
        """
        if not self.pieces:
            return values.get(self.fields[0])
        found = [value for field in self.fields if (value := values.get(field)) is not None]
        if all(not value or value.isspace() for value in found):
            return "" if found else None
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
