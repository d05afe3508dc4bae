"""Checks of one file: it has the columns that are wanted, in types that can be used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.types as pat

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import IdType, InputColumns
from bulkembed.schemas.messages import did_you_mean
from bulkembed.transforms.core.field_paths import field_advice
from bulkembed.transforms.inputs.column_types import (
    has_fraction,
    has_text_form,
    holds_media,
    id_kind,
    is_text,
)
from bulkembed.transforms.inputs.text_recipe import TextRecipe


def check_present(
    name: str, columns: InputColumns, found: Collection[str], fields: Sequence[str] = ()
) -> None:
    """Raise ConfigError unless a file has the columns of the id, text and title.

    Args:
        name: the file, for messages.
        columns: which columns are wanted.
        found: the names of its columns, and the wanted paths to fields that it has.
        fields: paths to fields in its columns, for messages.
    """
    wanted = [(columns.id_column, "--id-column", ", or use --generate-ids")]
    text_flag = "--text-column" if columns.text_template is None else "--text-template"
    text_flag = "--content" if columns.content else text_flag
    wanted += [(field, text_flag, "") for field in columns.text_fields]
    wanted += [(columns.title_column, "--title-column", "")]
    wanted += [(column, "--content", "") for column in columns.media_columns]
    for column, flag, other in wanted:
        if column is not None and column not in found:
            known = dict.fromkeys([*found, *fields])
            raise _missing(name, column, f"Choose one with {flag}{other}.", known)


def check_kept(name: str, columns: InputColumns, found: Collection[str]) -> None:
    """Raise ConfigError unless the file `name` has the columns that are kept by name."""
    for column in () if columns.keeps_all else columns.keep_columns:
        if column not in found:
            raise _missing(name, column, "Remove it from --keep-columns.", found)


def _missing(name: str, column: str, cure: str, found: Collection[str]) -> ConfigError:
    near = f"{did_you_mean(column, found)} ".lstrip()
    shown = ", ".join(map(repr, list(found)[:40])) or "none"
    more = f" and {len(found) - 40} more" if len(found) > 40 else ""
    return ConfigError(
        f"{name} has no column {column!r}. {near}It has {shown}{more}. {cure}",
    )


def check_types(name: str, types: Mapping[str, pa.DataType], columns: InputColumns) -> None:
    """Raise ConfigError unless the id, text and title of a file have types that can be used."""
    for column in TextRecipe.of(columns).columns:
        kind = types[column]
        if not has_text_form(kind):
            raise ConfigError(
                f"{name}: column {column!r} is {kind}, which cannot be written as text. Cast it, "
                "or choose another column.",
            )
        of_template = columns.text_template is not None or bool(columns.content)
        if not is_text(kind) and (not of_template or column == columns.title_column):
            raise ConfigError(
                f"{name}: column {column!r} is {kind}, but a text or title must be a string "
                "(string, binary with UTF-8, or a dictionary of them). Cast it, choose another "
                f"column, or write it into the text with --text-template '{{{column}}}'."
                + field_advice(column, _field_names(kind)),
            )
    for column in columns.media_columns:
        if not holds_media(types[column]):
            raise ConfigError(
                f"{name}: column {column!r} is {types[column]}, which holds no media. Allowed are "
                "bytes, strings (paths, URIs, data: URIs, base64), structs with the fields bytes "
                "and path, and lists of these. Choose another column in --content."
            )
    if columns.id_column is not None:
        _check_id(name, columns.id_column, types[columns.id_column], columns.id_type)


def _check_id(name: str, column: str, kind: pa.DataType, id_type: IdType) -> None:
    if id_kind(kind) is None:
        raise ConfigError(
            f"{name}: column {column!r} is {kind}, but an id must be a number, a UUID or a string. "
            "Cast it, choose another --id-column, or use --generate-ids."
            + field_advice(column, _field_names(kind)),
        )
    if has_fraction(kind) and id_type is IdType.AUTO:
        raise ConfigError(
            f"{name}: column {column!r} is {kind}, which has digits after the point. Use "
            "--id-type string to keep them.",
        )


def _field_names(kind: pa.DataType) -> list[str]:
    return [field.name for field in kind] if pat.is_struct(kind) else []


def check_unique(name: str, used: Sequence[str], found: Sequence[str]) -> None:
    """Raise ConfigError if a file has two columns of a name that is used."""
    twice = [column for column in used if found.count(column) > 1]
    if twice:
        raise ConfigError(
            f"{name} has more than one column {twice[0]!r}. Rename one of them.",
        )
