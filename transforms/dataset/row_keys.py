"""Keys of rows: numbers that are equal for equal values, made without a Python object per row.

They are computed from the buffers of Arrow arrays by numpy, and are the same in every process and
version. The keys depend on values alone: not on chunks, slices, dictionaries, or the width of
integers, floats and offsets. They are no defense against someone who looks for collisions.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bulkembed.schemas.output_schema import TEXT_HASH_TYPE

Keys128 = npt.NDArray[np.uint64]
"""128 bits for each row, shape (rows, 2)."""
_Lanes = npt.NDArray[np.uint64]
"""64 bits for each row, computed once with each seed, shape (seeds, rows)."""
_Words = npt.NDArray[np.uint64]

_SEEDS = np.array([0x9E3779B97F4A7C15, 0xD1B54A32D192ED03], np.uint64)
_ONE_SEED = _SEEDS[:1]
_STEPS = np.array([0x8CB92BA72F3D8DD7, 0xAEF17502108EF2D9], np.uint64)
"""What the position of a word or element adds, for each seed."""
_LENGTH = np.uint64(0xC2B2AE3D27D4EB4F)
_ORDER = np.uint64(0x9FB21C651E98DF25)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_CHUNK_ROWS = 1 << 15
_CHUNK_WORDS = 1 << 16
"""Small enough that temporary arrays stay in the cache."""
_MASKS = np.array([0] + [(1 << (8 * n)) - 1 for n in range(1, 9)], np.uint64)
"""The mask of a word with n bytes of a value."""


class _Kind(enum.IntEnum):
    """What values are; values of different kinds have different keys."""

    NULL = 1
    BOOLEAN = 2
    INTEGER = 3
    LARGE_INTEGER = 4
    FLOAT = 5
    STRING = 6
    BINARY = 7
    DECIMAL = 8
    DATE = 9
    TIME = 10
    TIMESTAMP = 11
    DURATION = 12
    LIST = 13
    MAP = 14
    STRUCT = 15


def id_keys(ids: pa.Array | pa.ChunkedArray) -> Keys128:
    """Return 128 bits for each id, shape (n, 2); two different ids never share them in practice.

    An integer and the string of its digits are different ids. Nulls have a key of their own.
    """
    return np.ascontiguousarray(_column(ids, _SEEDS).T)


def column_keys(rows: pa.Table | pa.RecordBatch, names: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return 64 bits for each row over some columns, shape (rows,).

    NaN equals NaN, and -0.0 differs from 0.0. Times that differ only in their unit are equal;
    decimals are equal only with the same scale. The fields of a struct may be in any order.

    Raises:
        TypeError: a column has a type that no Parquet file has, such as a union.
    """
    return joined_keys((_column(rows.column(name), _ONE_SEED)[0] for name in names), rows.num_rows)


def joined_keys(keys: Iterable[_Words], rows: int) -> npt.NDArray[np.uint64]:
    """Return 64 bits for each row over several numbers of it, shape (rows,); their order counts."""
    joined = np.full(rows, _ONE_SEED[0])
    for words in keys:
        joined *= _ORDER
        joined += words
        _mix(joined)
    return joined


def hash_keys(hashes: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Return the keys of a column `text_hash`, as `hashing.keys` does, shape (rows,)."""
    found = [np.empty(0, np.uint64)]
    for chunk in hashes.cast(TEXT_HASH_TYPE).chunks:
        words = np.frombuffer(chunk.buffers()[1], np.uint64, 2 * len(chunk), 16 * chunk.offset)
        found.append(words[::2])
    return np.concatenate(found)


def _column(values: pa.Array | pa.ChunkedArray, seeds: _Words) -> _Lanes:
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    found = [_lanes(piece, seeds) for chunk in chunks for piece in _pieces(chunk)]
    if len(found) == 1:
        return found[0]
    return np.concatenate([np.empty((len(seeds), 0), np.uint64), *found], axis=1)


def _pieces(chunk: pa.Array) -> Iterator[pa.Array]:
    """Yield an array in slices; one with a dictionary inside as a whole, to hash that once."""
    if pa.types.is_nested(chunk.type) or pa.types.is_dictionary(chunk.type):
        yield chunk
        return
    for start in range(0, len(chunk), _CHUNK_ROWS):
        yield chunk.slice(start, _CHUNK_ROWS)


def _mix(words: _Words) -> None:
    """Replace words by the finalizer of splitmix64, which spreads each bit over all bits."""
    words ^= words >> np.uint64(30)
    words *= _FIRST
    words ^= words >> np.uint64(27)
    words *= _SECOND
    words ^= words >> np.uint64(31)


def _lanes(array: pa.Array, seeds: _Words) -> _Lanes:
    lanes = _values(array, seeds)
    if array.null_count and not pa.types.is_null(array.type):
        lanes[:, array.is_null().to_numpy(zero_copy_only=False)] = _null(seeds)
    return lanes


def _null(seeds: _Words) -> _Lanes:
    return _of_words([np.zeros(1, np.uint64)], _Kind.NULL, seeds)


def _values(array: pa.Array, seeds: _Words) -> _Lanes:
    """Return the lanes of an array's values; those of nulls are arbitrary."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _lanes(array.storage, seeds)
    if pa.types.is_run_end_encoded(kind):
        return _lanes(pc.run_end_decode(array), seeds)
    if pa.types.is_dictionary(kind):
        return _of_dictionary(array, seeds)
    if pa.types.is_nested(kind):
        return _nested(array, seeds)
    if _is_bytes(kind):
        return _of_bytes(array, seeds)
    return _of_words(*_scalars(array), seeds)


def _scalars(array: pa.Array) -> tuple[list[_Words], _Kind | npt.NDArray[np.uint64]]:
    """Return the words of an array of fixed width, and the kind of its values."""
    kind = array.type
    if pa.types.is_null(kind):
        return [np.zeros(len(array), np.uint64)], _Kind.NULL
    if pa.types.is_boolean(kind):
        return [_fixed(array.cast(pa.uint8()), np.uint8).astype(np.uint64)], _Kind.BOOLEAN
    if pa.types.is_integer(kind):
        return _of_integers(array)
    if pa.types.is_floating(kind):
        numbers = _fixed(array, _numeric(kind)).astype(np.float64)
        numbers[np.isnan(numbers)] = np.nan
        return [numbers.view(np.uint64)], _Kind.FLOAT
    if pa.types.is_decimal(kind):
        return _of_decimals(array), _Kind.DECIMAL
    if pa.types.is_date32(kind):
        return [_fixed(array, np.int32).astype(np.int64).view(np.uint64)], _Kind.DATE
    if pa.types.is_date64(kind):
        return [(_fixed(array, np.int64) // 86_400_000).view(np.uint64)], _Kind.DATE
    for is_kind, name in _CLOCKS:
        if is_kind(kind):
            return _of_clock(array), name
    raise TypeError(f"rows cannot be compared by a column of the type {kind}")


_CLOCKS = (
    (pa.types.is_timestamp, _Kind.TIMESTAMP),
    (pa.types.is_time, _Kind.TIME),
    (pa.types.is_duration, _Kind.DURATION),
)


def _fixed(array: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    """Return the values of an array of fixed width; those of nulls are arbitrary."""
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array), dtype)
    kind = np.dtype(dtype)
    values: npt.NDArray[np.generic] = np.frombuffer(
        buffer, kind, len(array), offset=array.offset * kind.itemsize
    )
    return values


def _numeric(kind: pa.DataType) -> np.dtype[Any]:
    """Return the type of an array of integers or floats in numpy.

    `pa.DataType.to_pandas_dtype` needs pandas, which running a job does not install.
    """
    letter = (
        "f" if pa.types.is_floating(kind) else "u" if pa.types.is_unsigned_integer(kind) else "i"
    )
    return np.dtype(f"{letter}{kind.byte_width}")


def _of_integers(array: pa.Array) -> tuple[list[_Words], _Kind | npt.NDArray[np.uint64]]:
    words = _fixed(array, _numeric(array.type))
    if array.type != pa.uint64():
        return [words.astype(np.int64).view(np.uint64)], _Kind.INTEGER
    numbers = words.astype(np.uint64)
    large = numbers > np.uint64(2**63 - 1)
    if not large.any():
        return [numbers], _Kind.INTEGER
    # As a negative number of 64 bits has the same bits.
    kinds = np.where(large, np.uint64(_Kind.LARGE_INTEGER), np.uint64(_Kind.INTEGER))
    return [numbers], kinds


def _of_decimals(array: pa.Array) -> list[_Words]:
    """Return the scale and the four words of each number, whatever its width is."""
    width = array.type.byte_width
    low = np.dtype(f"<i{min(8, width)}")
    per_row = max(1, width // 8)
    flat = _fixed(array, np.dtype((low, (per_row,))))
    words = flat.reshape(-1, per_row).astype(np.int64)
    sign = words[:, -1] >> 63
    every = [words[:, at] if at < per_row else sign for at in range(4)]
    scale = np.full(len(array), array.type.scale, np.int64)
    return [np.ascontiguousarray(word).view(np.uint64) for word in (scale, *every)]


def _of_clock(array: pa.Array) -> list[_Words]:
    """Return the whole seconds and the nanoseconds of each time."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[array.type.unit]
    counts = _fixed(array, np.dtype(f"<i{array.type.bit_width // 8}")).astype(np.int64)
    seconds = counts // per_second
    nanoseconds = (counts - seconds * per_second) * (10**9 // per_second)
    return [seconds.view(np.uint64), nanoseconds.view(np.uint64)]


def _of_words(
    words: Sequence[_Words], kind: _Kind | npt.NDArray[np.uint64], seeds: _Words
) -> _Lanes:
    lanes = np.empty((len(seeds), len(words[0])), np.uint64)
    lanes[:] = seeds[:, None]
    lanes += np.asarray(kind, np.uint64) * _LENGTH
    for word in words:
        lanes *= _ORDER
        lanes += word
        _mix(lanes)
    lanes ^= seeds[:, None]  # Lanes of one word would otherwise be permutations of each other.
    _mix(lanes)
    return lanes


def _of_dictionary(array: pa.DictionaryArray, seeds: _Words) -> _Lanes:
    entries = _lanes(array.dictionary, seeds)
    if not entries.shape[1]:
        return np.repeat(_null(seeds), len(array), axis=1)
    indices = _fixed(array.indices, _numeric(array.indices.type)).astype(np.int64)
    if array.indices.null_count:
        indices[array.indices.is_null().to_numpy(zero_copy_only=False)] = 0
    return entries[:, indices]


# Strings and bytes.


def _is_bytes(kind: pa.DataType) -> bool:
    return (
        _is_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _is_string(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _of_bytes(array: pa.Array, seeds: _Words) -> _Lanes:
    kind = array.type
    value_kind = _Kind.STRING if _is_string(kind) else _Kind.BINARY
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        array = array.cast(pa.large_binary())
        kind = array.type
    if pa.types.is_fixed_size_binary(kind):
        begin = array.offset
        offsets = np.arange(begin, begin + len(array) + 1, dtype=np.int64) * kind.byte_width
    else:
        is_large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
        offsets = _offsets(array, np.int64 if is_large else np.int32)
    data = array.buffers()[-1]
    lengths = offsets[1:] - offsets[:-1]
    lanes = _sum_of_words(data, offsets[:-1], lengths, seeds)
    lanes += lengths.view(np.uint64) * _LENGTH
    lanes ^= seeds[:, None] + np.uint64(value_kind)
    _mix(lanes)
    return lanes


def _offsets(array: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[np.int64]:
    """Return where each value begins in the data, and where the last one ends, (rows + 1,)."""
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array) + 1, np.int64)
    at = array.offset * np.dtype(dtype).itemsize
    return np.frombuffer(buffer, dtype, len(array) + 1, offset=at).astype(np.int64)


def _sum_of_words(
    data: pa.Buffer | None,
    begins: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    seeds: _Words,
) -> _Lanes:
    """Return the sum of each value's words of 8 bytes, each mixed with its position."""
    lanes = np.zeros((len(seeds), len(lengths)), np.uint64)
    counts = (lengths + 7) >> 3
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    if not total or data is None:
        return lanes
    for low in range(0, total, _CHUNK_WORDS):
        high = min(low + _CHUNK_WORDS, total)
        first = int(np.searchsorted(ends, low, side="right"))
        last = int(np.searchsorted(ends, high, side="left")) + 1
        rows = _not_empty(counts, first, last)
        size, end, begin = counts[rows], ends[rows], begins[rows]
        start = end - size
        inside = np.minimum(end, high) - np.maximum(start, low)
        positions = np.arange(low, high) - np.repeat(start, inside)
        words = _load(data, np.repeat(begin, inside) + 8 * positions)
        stops = np.cumsum(inside)
        tails = _MASKS[lengths[rows] - 8 * (size - 1)]
        if end[-1] > high:  # The last word of this row is in the next chunk.
            tails[-1] = _MASKS[8]
        words[stops - 1] &= tails
        mixed = positions.view(np.uint64) * _STEPS[: len(seeds), None]
        mixed += words
        mixed ^= seeds[:, None]
        _mix(mixed)
        lanes[:, rows] += np.add.reduceat(mixed, stops - inside, axis=1)
    return lanes


def _not_empty(
    counts: npt.NDArray[np.int64], first: int, last: int
) -> slice | npt.NDArray[np.int64]:
    """Return the rows of a range that have words; a slice, which is faster, if all have."""
    if counts[first:last].all():
        return slice(first, last)
    return first + np.flatnonzero(counts[first:last])


def _load(data: pa.Buffer, begins: npt.NDArray[np.int64]) -> _Words:
    """Return the 8 bytes from each place on; those after the end of the buffer are 0."""
    size = data.size
    if size < 8:
        return _load(pa.py_buffer(data.to_pybytes() + bytes(8)), begins)
    every: _Words = np.ndarray((size - 7,), np.dtype("<u8"), data, strides=(1,))
    late = begins > size - 8
    if not late.any():
        words: _Words = every[begins]
        return words
    words = every[np.minimum(begins, size - 8)]
    words[late] >>= (8 * (begins[late] - (size - 8))).astype(np.uint64)
    return words


# Lists, maps and structs.


def _nested(array: pa.Array, seeds: _Words) -> _Lanes:
    kind = array.type
    if pa.types.is_struct(kind):
        return _of_struct(array, seeds)
    if pa.types.is_map(kind):
        offsets = _offsets(array, np.int32)
        pairs = _of_pairs(array.keys, array.items, seeds)
        return _of_elements(pairs, offsets, _Kind.MAP, seeds)
    if pa.types.is_fixed_size_list(kind):
        begin, size = array.offset, kind.list_size
        offsets = np.arange(begin, begin + len(array) + 1, dtype=np.int64) * size
    elif pa.types.is_list(kind):
        offsets = _offsets(array, np.int32)
    elif pa.types.is_large_list(kind):
        offsets = _offsets(array, np.int64)
    elif kind.id in _LIST_VIEWS:
        return _of_list_views(array, seeds)
    else:
        raise TypeError(f"rows cannot be compared by a column of the type {kind}")
    used = array.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    return _of_elements(_lanes(used, seeds), offsets - offsets[0], _Kind.LIST, seeds)


_LIST_VIEWS = (pa.list_view(pa.null()).id, pa.large_list_view(pa.null()).id)


def _of_list_views(array: pa.ListViewArray, seeds: _Words) -> _Lanes:
    begins = array.offsets.to_numpy().astype(np.int64)
    sizes = array.sizes.to_numpy().astype(np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    places = np.repeat(begins - offsets[:-1], sizes) + np.arange(offsets[-1])
    return _of_elements(_lanes(array.values, seeds)[:, places], offsets, _Kind.LIST, seeds)


def _of_struct(array: pa.StructArray, seeds: _Words) -> _Lanes:
    lanes = np.zeros((len(seeds), len(array)), np.uint64)
    for at, field in enumerate(array.type):
        name = _lanes(pa.array([field.name]), seeds)
        value = _lanes(array.field(at), seeds)
        value *= _ORDER
        value += name
        _mix(value)
        lanes += value
    lanes ^= seeds[:, None] + np.uint64(_Kind.STRUCT)
    _mix(lanes)
    return lanes


def _of_pairs(keys: pa.Array, items: pa.Array, seeds: _Words) -> _Lanes:
    lanes = _lanes(keys, seeds)
    lanes *= _ORDER
    lanes += _lanes(items, seeds)
    _mix(lanes)
    return lanes


def _of_elements(
    elements: _Lanes, offsets: npt.NDArray[np.int64], kind: _Kind, seeds: _Words
) -> _Lanes:
    """Return the lanes of lists whose elements lie one after another."""
    counts = offsets[1:] - offsets[:-1]
    lanes = np.zeros((len(seeds), len(counts)), np.uint64)
    rows = np.flatnonzero(counts)
    if len(rows):
        begin, end = int(offsets[0]), int(offsets[-1])
        positions = np.arange(begin, end) - np.repeat(offsets[rows], counts[rows])
        mixed = positions.view(np.uint64) * _STEPS[: len(seeds), None]
        mixed += elements[:, begin:end]
        _mix(mixed)
        lanes[:, rows] = np.add.reduceat(mixed, offsets[rows] - begin, axis=1)
    lanes += counts.view(np.uint64) * _LENGTH
    lanes ^= seeds[:, None] + np.uint64(kind)
    _mix(lanes)
    return lanes
