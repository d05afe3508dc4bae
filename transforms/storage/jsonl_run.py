"""One run of a JSONL file: its lines turned into ids, texts and kept columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from schemas.deadletters import DeadCode
from schemas.inputs import IdType
from transforms.storage.json_text import text_of
from transforms.storage.jsonl_lines import (
    NotARow,
    describe,
    is_utf8,
    may_be_rounded,
    parse,
    parse_exactly,
)
from transforms.storage.jsonl_types import fitting
from transforms.storage.row_run import RowRun, Wanted, kept_table, made_ids

Bad = dict[int, tuple[DeadCode, str]]


class BadValue(ValueError):
    """A value that makes its row a dead letter, with the code."""

    def __init__(self, code: DeadCode, what: str) -> None:
        super().__init__(what)
        self.code = code


@dataclasses.dataclass(eq=False)
class JsonlRun:
    """The rows of one run, taken in one by one."""

    name: str
    wanted: Wanted
    first_row: int
    bad: Bad = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._recipe = self.wanted.recipe
        self._sent = self.wanted.sent
        self._kept_schema = self.wanted.kept
        self._ids: list[int | str | None] = []
        self._titles: list[str | None] = []
        self._texts: list[str | None] = []
        self._kept: list[dict[str, Any]] = []
        self._unkept: set[str] = set()

    def read(self, lines: Sequence[bytes]) -> RowRun:
        """The run; the first fault of a row, in the order JSON, id, text, is its code."""
        for offset, line in enumerate(lines):
            self._add(offset, line)
        kept = [self._column(field) for field in self._kept_schema]
        return RowRun(
            first_row=self.first_row,
            ids=self._id_array(len(lines)),
            titles=self._titles,
            texts=self._texts,
            kept=kept_table(kept, self._kept_schema, len(lines)),
            bad=dict(sorted(self.bad.items())),
            unkept=frozenset(self._unkept),
        )

    def _note(self, offset: int, code: DeadCode, what: str) -> None:
        row = self.first_row + offset
        self.bad.setdefault(offset, (code, f"row {row} of {self.name}: {what}"))

    def _add(self, offset: int, line: bytes) -> None:
        try:
            row, sure = parse(line)
        except NotARow as error:
            self._note(offset, DeadCode.BAD_JSON, str(error))
            row, sure = {}, True
        else:
            row = self._exact(row, line)
        values: dict[str, str | None] = {}
        identity: int | str | None = None
        try:
            identity = None if offset in self.bad else self._id(row, sure)
        except BadValue as error:
            self._note(offset, error.code, str(error))
        try:
            values = {name: self._text(row, name, sure) for name in self._sent}
        except BadValue as error:
            self._note(offset, error.code, str(error))
        title = self.wanted.columns.title_column
        self._ids.append(identity)
        self._texts.append(self._recipe.text(values))
        self._titles.append(values.get(title) if title is not None else None)
        if self._kept_schema.names:
            self._kept.append(row)

    def _exact(self, row: dict[str, Any], line: bytes) -> dict[str, Any]:
        """The row with integers from 2^64 up as they were written, where they count."""
        used = [self.wanted.columns.id_column, *self._sent, *self._kept_schema.names]
        if any(may_be_rounded(row.get(name)) for name in used if name is not None):
            return dict(parse_exactly(line))
        return row

    def _id(self, row: dict[str, Any], sure: bool) -> int | str | None:
        name = self.wanted.columns.id_column
        if name is None:
            return None
        value = row.get(name)
        if value is None:
            what = "is null" if name in row else "is not there"
            raise BadValue(DeadCode.MISSING_ID, f"the id {name!r} {what}")
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is float and self.wanted.columns.id_type is IdType.STRING:
            return text_of(value)
        if type(value) is int:
            return self._int_id(name, value)
        if type(value) is not str:
            what = f"the id {name!r} is {describe(value)}; an id is an integer or a string"
            what += "; --id-type string takes it" if type(value) is float else ""
            raise BadValue(DeadCode.BAD_ID, what)
        if not sure and not is_utf8(value):
            raise BadValue(DeadCode.BAD_ID, f"the id {name!r} has a lone surrogate")
        if not pa.types.is_string(self.wanted.id_type):
            raise BadValue(DeadCode.BAD_ID, self._other_kind(name, value))
        return value

    def _int_id(self, name: str, value: int) -> int | str:
        if self.wanted.columns.id_type is IdType.STRING:
            return str(value)
        kind = self.wanted.id_type
        if not pa.types.is_integer(kind):
            raise BadValue(DeadCode.BAD_ID, self._other_kind(name, value))
        signed = pa.types.is_signed_integer(kind)
        low = -(2 ** (kind.bit_width - 1)) if signed else 0
        if not low <= value < low + 2**kind.bit_width:
            what = f"the id {name!r} is {describe(value)}, beyond {kind}; use --id-type string"
            raise BadValue(DeadCode.BAD_ID, what)
        return value

    def _other_kind(self, name: str, value: int | str) -> str:
        return (
            f"the id {name!r} is {describe(value)}, the others are {self.wanted.id_type}; "
            "--id-type string takes both"
        )

    def _id_array(self, rows: int) -> pa.Array:
        if self.wanted.columns.id_column is None:
            return made_ids(self.name, self.first_row, rows)
        return pa.array(self._ids, self.wanted.id_type)

    def _column(self, field: pa.Field) -> pa.Array:
        values = [row.get(field.name) for row in self._kept]
        array, unfit = fitting(values, field.type)
        if unfit:
            self._unkept.add(field.name)
        return array

    def _text(self, row: dict[str, Any], name: str, sure: bool) -> str | None:
        value = row.get(name)
        if self._recipe.pieces and name in self._recipe.fields:
            value = text_of(value)
        if value is None:
            return None
        if type(value) is not str:
            what = f"{name!r} is {describe(value)}; a text or title is a string"
            raise BadValue(DeadCode.BAD_TEXT, what)
        if not sure and not is_utf8(value):
            what = f"{name!r} has a lone surrogate, which cannot be sent as UTF-8"
            raise BadValue(DeadCode.BAD_TEXT, what)
        return value
