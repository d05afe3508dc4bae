"""Whether the columns that were asked for are in a file, and can be used."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa

from schemas.errors import ConfigError
from schemas.inputs import IdType, InputColumns
from transforms.storage.column_types import has_fraction, has_text_form, id_kind, is_text
from transforms.storage.text_recipe import text_columns


def check_present(name: str, columns: InputColumns, there: Collection[str]) -> None:
    """Raises ConfigError unless the id's, text's and title's columns are all in the file `name`."""
    asked = [(columns.id_column, "--id-column", " or --generate-ids")]
    text_flag = "--text-column" if columns.text_template is None else "--text-template"
    asked += [(field, text_flag, "") for field in columns.text_fields]
    asked += [(columns.title_column, "--title-column", "")]
    for column, flag, other in asked:
        if column is not None and column not in there:
            raise _missing(name, column, f"name one of these with {flag}{other}", there)


def check_kept(name: str, columns: InputColumns, there: Collection[str]) -> None:
    """Raises ConfigError unless the columns that are kept by name are all in the file `name`."""
    for column in () if columns.keeps_all else columns.keep_columns:
        if column not in there:
            raise _missing(name, column, "leave it out of --keep-columns", there)


def _missing(name: str, column: str, cure: str, there: Collection[str]) -> ConfigError:
    shown = list(there)[:40]
    more = f" and {len(there) - 40} more" if len(there) > 40 else ""
    return ConfigError(
        f"{name} has no column {column!r}; it has {', '.join(map(repr, shown)) or 'none'}{more}; "
        f"{cure}",
        file=name,
        column=column,
    )


def check_types(name: str, schema: pa.Schema, columns: InputColumns) -> None:
    """Raises ConfigError unless the id, text and title of a Parquet file have types that fit."""
    for column in text_columns(columns):
        kind = schema.field(column).type
        if not has_text_form(kind):
            raise ConfigError(
                f"{name}: column {column!r} is {kind}, which cannot be written as text; cast it, "
                "or name another column",
                file=name,
                column=column,
            )
        if not is_text(kind) and (columns.text_template is None or column == columns.title_column):
            raise ConfigError(
                f"{name}: column {column!r} is {kind}, a text or title has to be a string "
                "(string, binary that holds UTF-8, or a dictionary of them); cast it, name another "
                f"column, or write it into a text: --text-template '{{{column}}}'",
                file=name,
                column=column,
            )
    if columns.id_column is not None:
        _check_id(name, columns.id_column, schema.field(columns.id_column).type, columns.id_type)


def _check_id(name: str, column: str, kind: pa.DataType, id_type: IdType) -> None:
    if id_kind(kind) is None:
        raise ConfigError(
            f"{name}: column {column!r} is {kind}, an id has to be a number, a UUID or a string; "
            "cast it, name another --id-column, or use --generate-ids",
            file=name,
            column=column,
        )
    if has_fraction(kind) and id_type is IdType.AUTO:
        raise ConfigError(
            f"{name}: column {column!r} is {kind}, which has digits behind the point: "
            "--id-type string keeps them",
            file=name,
            column=column,
        )


def check_unique(name: str, used: Sequence[str], there: Sequence[str]) -> None:
    """Raises ConfigError if a Parquet file has two columns of a name that is used."""
    twice = [column for column in used if there.count(column) > 1]
    if twice:
        raise ConfigError(
            f"{name} has more than one column {twice[0]!r}; rename one of them",
            file=name,
            column=twice[0],
        )
