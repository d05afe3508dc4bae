"""The type of a JSONL column, learnt from its values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from transforms.storage.column_types import INT64_TOP, UINT64_TOP, unify

UNFIT = (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError)
"""What pyarrow raises for Python values that do not fit a type."""


class ColumnType:
    """The type that holds all values so far, in their order.

    A value that does not go together with those before it is left out: its row becomes a dead
    letter (`bad_column`) when it is read.
    """

    def __init__(self) -> None:
        self._type = pa.null()
        self._negative = False
        self._huge = False

    @property
    def type(self) -> pa.DataType:
        """The type; null where every value was null."""
        return pa.uint64() if self._huge and self.could_be_unsigned else self._type

    @property
    def could_be_unsigned(self) -> bool:
        """Whether all values are integers from 0 up."""
        return bool(self._type.equals(pa.int64())) and not self._negative

    def add(self, values: Sequence[Any]) -> None:
        """Takes more values in; in bulk where they go together, else one by one."""
        if self._take(values):
            return
        for value in values:
            if type(value) is int and INT64_TOP < value <= UINT64_TOP:
                self._huge = self._take([0]) or self._huge
            else:
                self._take([value])

    def _take(self, values: Sequence[Any]) -> bool:
        try:
            array = pa.array(values)
        except UNFIT:
            return False
        if pa.types.is_uint64(array.type):
            return False
        merged = unify(self._type, array.type)
        if merged is None:
            return False
        self._type = merged
        if pa.types.is_int64(array.type) and not self._negative:
            low = pc.min(array).as_py()
            self._negative = low is not None and low < 0
        return True


def fitting(values: Sequence[Any], kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """The values as an array of that type, and the offsets of those that do not fit: null."""
    try:
        return _array(values, kind), []
    except UNFIT:
        pass
    fit, unfit = [], []
    for offset, value in enumerate(values):
        try:
            _array([value], kind)
            fit.append(value)
        except UNFIT:
            fit.append(None)
            unfit.append(offset)
    return pa.array(fit, kind), unfit


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    array = pa.array(values, kind)
    checked = pat.is_floating(kind) or pat.is_integer(kind) or pat.is_nested(kind)
    if checked and any(_would_change(value, kind) for value in values):
        raise ValueError(f"a value is no {kind}")
    return array


def _would_change(value: Any, kind: pa.DataType) -> bool:
    """Whether pyarrow takes the value and makes another of it: true to 1.0, 1.5 to 1, [] to {}."""
    if value is None:
        return False
    if pat.is_floating(kind):
        return type(value) is bool
    if pat.is_integer(kind):
        return type(value) is float
    if pat.is_map(kind):
        return type(value) is not dict
    if pat.is_struct(kind):
        return type(value) is not dict or _struct_would_change(value, kind)
    if pat.is_list(kind) or pat.is_large_list(kind):
        return any(_would_change(item, kind.value_type) for item in value)
    return False


def _struct_would_change(value: dict[str, Any], kind: pa.DataType) -> bool:
    types = {field.name: field.type for field in kind}
    return any(
        name not in types or _would_change(item, types[name]) for name, item in value.items()
    )
