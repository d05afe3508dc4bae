"""The Arrow type of a column, inferred from its values as Python objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from bulkembed.transforms.inputs.column_types import INT64_TOP, UINT64_TOP, unify
from bulkembed.transforms.inputs.rows import text_of

UNFIT = (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError)
"""What pyarrow raises for Python values that do not fit a type."""
_EXACT_INTEGERS = 2**53
"""A double holds every integer up to this one."""


class ColumnType:
    """The type that holds all values so far; string if no other type does (`is_mixed`)."""

    def __init__(self) -> None:
        self._type = pa.null()
        self._negative = False
        self._huge = False
        self._wide = False
        self._mixed = False

    @property
    def type(self) -> pa.DataType:
        """The type; null where every value was null."""
        return pa.string() if self.is_mixed else self.narrow

    @property
    def narrow(self) -> pa.DataType:
        """The type of the first values, and of later ones while one type can hold both."""
        is_unsigned = self._huge and self._is_int and not self._negative
        return pa.uint64() if is_unsigned else self._type

    @property
    def is_mixed(self) -> bool:
        """Whether no type but string can hold all values."""
        return self._mixed or (self._huge and (self._negative or not self._is_int))

    @property
    def could_be_unsigned(self) -> bool:
        """Whether all values are integers from 0 up."""
        return self._is_int and not self._negative and not self._mixed

    @property
    def is_wide(self) -> bool:
        """Whether all values are integers, and one of them is not exact as a double."""
        return self._is_int and self._wide

    @property
    def _is_int(self) -> bool:
        return bool(self._type.equals(pa.int64()))

    def add(self, values: Sequence[Any]) -> None:
        """Add more values: together if one type holds them, else one by one."""
        if self._take(values):
            return
        for value in values:
            if type(value) is int and INT64_TOP < value <= UINT64_TOP:
                self._huge = True
                self._mixed = self._mixed or not self._take([0])
            elif not self._take([value]):
                self._mixed = True

    def _take(self, values: Sequence[Any]) -> bool:
        try:
            array = pa.array(values)
        except UnicodeEncodeError:
            return len(values) == 1  # No type holds a lone surrogate: the value will be null.
        except UNFIT:
            return False
        if pa.types.is_uint64(array.type) or _any_would_change(values, array.type):
            return False
        merged = unify(self._type, array.type)
        if merged is None:
            return False
        low, high = _range(array)
        wide = self._wide or low < -_EXACT_INTEGERS or high > _EXACT_INTEGERS
        if wide and pat.is_floating(merged):
            return False
        self._type, self._wide = merged, wide
        self._negative = self._negative or low < 0
        return True


def _range(array: pa.Array) -> tuple[int, int]:
    """Return the smallest and the largest integer; 0 if there are none."""
    if not pat.is_int64(array.type):
        return 0, 0
    found = pc.min_max(array)
    return found["min"].as_py() or 0, found["max"].as_py() or 0


def fitting(values: Sequence[Any], kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """Return the values as an array of that type, and the offsets of those that do not fit.

    Values that do not fit become null. If the type is string, other values are written as JSON.
    """
    if pat.is_string(kind):
        values = [text_of(value) for value in values]
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
    if _any_would_change(values, kind):
        raise ValueError(f"a value is not {kind}")
    return array


def _any_would_change(values: Sequence[Any], kind: pa.DataType) -> bool:
    checked = pat.is_floating(kind) or pat.is_integer(kind) or pat.is_nested(kind)
    return checked and any(_would_change(value, kind) for value in values)


def _would_change(value: Any, kind: pa.DataType) -> bool:
    """Return whether pyarrow would convert the value: true to 1.0, 1.5 to 1, [] to {}."""
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
