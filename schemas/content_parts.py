"""The parts of a row that are sent together: texts and media, as `--content` names them."""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Sequence

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.media import MediaKind
from bulkembed.schemas.media_settings import MediaSettings

FLAG = "--content"
_TEXT = "text"
_KINDS = (_TEXT, *MediaKind)
_NAMED = re.compile(rf"({'|'.join(_KINDS)}):([^{{}}]+)", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class ContentPart:
    """One part: a text made of columns, or the media of one column."""

    kind: MediaKind | None
    """None for a text."""
    source: str
    """The template of the text, or the column of the media."""

    def __str__(self) -> str:
        return self.source if self.kind is None else f"{self.kind}:{self.source}"

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that are read for it."""
        return template_fields(FLAG, self.source) if self.kind is None else (self.source,)


def parse_part(typed: str) -> ContentPart:
    """Return the part that `image:photo`, `text:body` or `{title}. {body}` means.

    Raises:
        ConfigError: it is none of these.
    """
    named = _NAMED.fullmatch(typed)
    if named is not None and named[2].strip():
        kind, column = named.groups()
        return ContentPart(None, f"{{{column}}}") if kind == _TEXT else _media(kind, column)
    if named is None and template_fields(FLAG, typed):
        return ContentPart(None, typed)
    raise ConfigError(
        f"{FLAG} {typed!r} names no column. Write a text with columns in braces, as in "
        f"'{{title}}. {{body}}', or one of {', '.join(f'{kind}:COLUMN' for kind in _KINDS)}."
    )


def parse_column(typed: str) -> ContentPart:
    """Return the part that is a column: `body` or `text:body` for a text, or `image:photo`.

    The source of a text is its column here, not a template.
    """
    named = _NAMED.fullmatch(typed)
    if named is None:
        return ContentPart(None, typed)
    kind, column = named.groups()
    return ContentPart(None, column) if kind == _TEXT else _media(kind, column)


def _media(kind: str, column: str) -> ContentPart:
    return ContentPart(MediaKind(kind), column)


def has_media(parts: Sequence[ContentPart]) -> bool:
    """Return whether any part is media."""
    return any(part.kind is not None for part in parts)


def template_fields(flag: str, template: str) -> tuple[str, ...]:
    """Return the columns that a template names, in the order of their first use.

    Args:
        flag: the flag that has the template, for messages.
        template: words, and columns in braces.

    Raises:
        ConfigError: the braces are wrong, or a field has a format.
    """
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"{flag} {template!r}: {error}. Write '{{{{' for a brace.") from None
    names = []
    for _, name, spec, conversion in parsed:
        if name is None:
            continue
        if not name or spec or conversion:
            raise ConfigError(
                f"{flag} {template!r}: a field must be the name of a column in braces, without a "
                "format. Write '{{' for a brace."
            )
        names.append(name)
    return tuple(dict.fromkeys(names))


def check_switches(parts: Sequence[ContentPart], settings: MediaSettings) -> None:
    """Check that the switches of a kind of media are used with such a part.

    Raises:
        ConfigError: a switch would have no effect.
    """
    for flag, given, kind in (
        ("--document-ocr", settings.document_ocr, MediaKind.PDF),
        ("--audio-track", settings.audio_track, MediaKind.VIDEO),
    ):
        if given and not any(part.kind is kind for part in parts):
            raise ConfigError(
                f"{flag} needs {kind}:COLUMN in --content. Add such a part, or remove {flag}."
            )
