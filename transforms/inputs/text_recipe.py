"""How columns become a row's text and title, and how a template is typed."""

from __future__ import annotations

import dataclasses
import functools
import re
import string
from collections.abc import Mapping, Sequence

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns

ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
"""The character after a backslash in `--text-template`, and the character that both stand for."""
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class TextRecipe:
    """The columns that make a text and a title, and how."""

    fields: tuple[str, ...]
    """The columns that make the text; none if texts are not read."""
    title: str | None = None
    """The column of the title."""
    pieces: tuple[tuple[str, str | None], ...] = ()
    """Of a template: (words, the field after them or None); empty where one column is the text."""

    @classmethod
    @functools.cache
    def of(cls, columns: InputColumns) -> TextRecipe:
        """Return the recipe for the columns."""
        template = columns.text_template
        if columns.content:
            # The text of a row with media is for its dead letter; `row_parts` has what is sent.
            template = "\n\n".join(one.source for one in columns.content if one.kind is None)
        return cls(columns.text_fields, columns.title_column, _pieces(template))

    @classmethod
    def of_template(cls, template: str) -> TextRecipe:
        """Return the recipe of a template alone."""
        pieces = _pieces(template)
        fields = dict.fromkeys(field for _, field in pieces if field is not None)
        return cls(tuple(fields), None, pieces)

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values are sent: those of the text, then the title's."""
        titles = (self.title,) if self.title is not None else ()
        return tuple(dict.fromkeys(self.fields + titles))

    def is_template_field(self, column: str) -> bool:
        """Return whether a template writes the column, so that it need not be a string."""
        return bool(self.pieces) and column in self.fields

    def text(self, values: Mapping[str, str | None]) -> str | None:
        """Return the text of one row; a null field of a template counts as "".

        None where the column, or every field of the template, is null or missing; "" where every
        field is blank: the words between the fields alone are not a text.
        """
        if not self.fields:
            return None
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
        """Return the texts of many rows; `columns` has the values of each field, in order."""
        if not self.pieces:
            return list(columns[0])
        rows = zip(*columns, strict=True)
        return [self.text(dict(zip(self.fields, row, strict=True))) for row in rows]


def _pieces(template: str | None) -> tuple[tuple[str, str | None], ...]:
    if not template:
        return ()
    return tuple((words, field) for words, field, _, _ in string.Formatter().parse(template))


def decode_template(typed: str, flag: str = "--text-template") -> str:
    r"""Return the template that a flag means: `\n` is a line break, and so on.

    The shell, the environment and a YAML string in single quotes pass `\n` on as two characters,
    and a YAML string in double quotes as a line break. Decoding makes all of them equal.

    Raises:
        ConfigError: a backslash is followed by a character that is not in ESCAPES.
    """

    def character(match: re.Match[str]) -> str:
        if match[1] in ESCAPES:
            return ESCAPES[match[1]]
        found = f"unknown escape '{match[0]}'" if match[1] else "a backslash at the end"
        raise ConfigError(
            f"{flag} '{typed}': {found}. Allowed are \\n (line break), \\t (tab), "
            f"\\r (carriage return) and \\\\ (backslash). Write '\\{match[0]}' for a backslash."
            + (f" followed by '{match[1]}'." if match[1] else ".")
        )

    return _ESCAPE.sub(character, typed)


def encode_template(template: str) -> str:
    """Return how a template is typed; the inverse of `decode_template`."""
    return template.replace("\\", "\\\\")


def has_undecoded_escapes(template: str) -> bool:
    r"""Return whether a template holds `\n`, `\t` or `\r` as two characters.

    Versions that did not decode escapes wrote such templates.
    """
    return re.search(r"\\[ntr]", template) is not None
