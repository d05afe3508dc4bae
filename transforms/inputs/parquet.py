"""Parquet files: scanning their footers, and reading their rows in bounded memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pyarrow.types as pat

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OR_SKIP, InputError
from bulkembed.schemas.inputs import FoundFile, InputColumns, InputFile
from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.inputs.column_checks import check_present, check_types, check_unique
from bulkembed.transforms.inputs.column_types import (
    has_fixed_lists,
    has_nanoseconds,
    in_lists,
    in_microseconds,
    is_bytes,
    is_string,
    is_text,
    plain_type,
)
from bulkembed.transforms.inputs.hive_keys import hive_keys
from bulkembed.transforms.inputs.img2dataset import (
    ERROR,
    STATUS,
    download_fault,
    is_img2dataset,
)
from bulkembed.transforms.inputs.input_files import ScannedFile
from bulkembed.transforms.inputs.nested_columns import (
    FoundColumn,
    find_column,
    struct_fields,
    take_column,
)
from bulkembed.transforms.inputs.parquet_footers import open_parquet, open_stored, read_footer
from bulkembed.transforms.inputs.parquet_pages.large_columns import (
    HELD_PAGE_BYTES,
    ColumnPages,
    LargeColumn,
)
from bulkembed.transforms.inputs.row_parts import PartReader, RowPart
from bulkembed.transforms.inputs.rows import (
    BadRows,
    RowBatch,
    WantedColumns,
    generated_ids,
    kept_table,
    text_of,
)
from bulkembed.transforms.inputs.stored_bytes import changed, reading
from bulkembed.transforms.inputs.text_recipe import TextRecipe

_MIN_BATCH_ROWS, _MAX_BATCH_ROWS = 64, 4096
_Pieces: TypeAlias = Iterator[list[pa.RecordBatch]]
"""For each range of rows, the record batches that have them."""


def scan_footer(
    stored: pa.NativeFile, found: FoundFile, columns: InputColumns, tail: bytes
) -> ScannedFile:
    """Return what the footer says; see `input_files.FooterFormat`."""
    if not found.size_bytes:
        raise InputError(
            f"{found.name} is empty, so it is not a Parquet file. Remove it{OR_SKIP}",
            path=found.path,
        )
    footer = read_footer(stored, tail)
    parquet = open_parquet(stored, footer)
    schema, rows, chunks = parquet.schema_arrow, footer.rows, footer.chunks
    used = _used(schema, found, columns, has_rows=rows > 0)
    is_held = rows > 0 and chunks is not None and columns.media_columns
    held = _held_bytes(stored, parquet, columns) if is_held else 0
    ids = used.get(columns.id_column) if columns.id_column is not None else None
    return ScannedFile(
        found=found,
        digest="",
        rows=rows,
        offsets=(),
        schema=pa.schema([(name, _type(column, chunks)) for name, column in used.items()]),
        columns=tuple(schema.names),
        id_range=None if ids is None or chunks is None else _id_range(chunks, ids),
        held_bytes=held,
    )


def _used(
    schema: pa.Schema, found: FoundFile, columns: InputColumns, *, has_rows: bool
) -> dict[str, FoundColumn]:
    """Return the id and the kept columns by the names that they are wanted by, after checking them.

    A file without rows is not checked: its writer often does not know the types.
    """
    kept = schema.names if columns.keeps_all else list(columns.keep_columns)
    ids = [columns.id_column] if columns.id_column is not None else []
    used = _find(schema, [*ids, *kept])
    if not has_rows:
        once = (name for name, column in used.items() if schema.names.count(column.path[0]) == 1)
        return {name: used[name] for name in once}
    read = _find(schema, [*ids, *TextRecipe.of(columns).columns, *columns.media_columns])
    of_path = hive_keys(found.path)
    check_present(found.name, columns, [*schema.names, *read, *of_path], struct_fields(schema))
    tops = [column.path[0] for column in (*used.values(), *read.values())]
    check_unique(found.name, tops, schema.names)
    types = dict.fromkeys(of_path, pa.string())
    types |= {name: column.type for name, column in read.items()}
    check_types(found.name, types, columns)
    return used


def _find(schema: pa.Schema, names: Sequence[str]) -> dict[str, FoundColumn]:
    """Return the columns and fields that the file has, by the names that they are wanted by."""
    found = {name: find_column(schema, name) for name in names}
    return {name: column for name, column in found.items() if column is not None}


def _type(column: FoundColumn, chunks: pq.FileMetaData | None) -> pa.DataType:
    """Return a column's type; a list of fixed size that may be null becomes a plain list."""
    if not has_fixed_lists(column.type):
        return column.type
    may_have_nulls = chunks is None or _may_have_nulls(column.parquet_path, chunks)
    return in_lists(column.type) if may_have_nulls else column.type


def _may_have_nulls(column: str, metadata: pq.FileMetaData) -> bool:
    """Return whether a nested column may have nulls at any depth, by the row groups' statistics."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            if not chunk.path_in_schema.startswith(f"{column}."):
                continue
            statistics = chunk.statistics if chunk.is_stats_set else None
            if statistics is None or not statistics.has_null_count or statistics.null_count:
                return True
    return False


def _held_bytes(file: pa.NativeFile, parquet: pq.ParquetFile, columns: InputColumns) -> int:
    """Return the size of the pages of media that are in memory as a whole; 0 if none is large."""
    pages = ColumnPages(parquet, HELD_PAGE_BYTES)
    found = _find(parquet.schema_arrow, columns.media_columns).values()
    return max((pages.held_bytes(file, column) for column in found), default=0)


def _id_range(metadata: pq.FileMetaData, ids: FoundColumn) -> tuple[int, int] | None:
    """Return the smallest and largest integer id, if all row groups have statistics."""
    if not metadata.num_rows or not pat.is_integer(plain_type(ids.type)):
        return None
    ranges = []
    for group in range(metadata.num_row_groups):
        statistics = _statistics(metadata.row_group(group), ids.parquet_path)
        if statistics is None or not statistics.has_min_max:
            return None
        ranges.append((statistics.min, statistics.max))
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None


def _statistics(group: pq.RowGroupMetaData, column: str) -> pq.Statistics | None:
    for place in range(group.num_columns):
        chunk = group.column(place)
        # A column within a struct can have the same path as a flat one with a dot in its name.
        if chunk.path_in_schema == column:
            return chunk.statistics if chunk.is_stats_set else None
    return None


def read(
    filesystem: pafs.FileSystem,
    file: InputFile,
    wanted: WantedColumns,
    ranges: Sequence[RowRange],
) -> Iterator[RowBatch]:
    """Yield one batch for each range; see `input_files.read_batches`.

    Row groups without a wanted row are not read.
    """
    with reading(file.found), open_stored(filesystem, file.found) as stored:
        footer = read_footer(stored)
        parquet = open_parquet(stored, footer)
        if parquet.metadata.num_rows != file.rows:
            now = f"it has {parquet.metadata.num_rows:,} rows instead of {file.rows:,}"
            raise changed(file.found, now)
        schema = parquet.schema_arrow
        has_status = bool(wanted.media_columns) and is_img2dataset(schema.names)
        found = _wanted(schema, file, wanted, has_status=has_status)
        is_large = wanted.media_columns and footer.chunks is not None
        large = _large(parquet, found) if is_large else {}
        found = {name: column for name, column in found.items() if name not in large}
        lists = {name: found[name] for name in found if _as_list(name, found[name], wanted)}
        sources = [
            (parquet, {name: found[name] for name in found if name not in lists}),
            *([(open_parquet(stored, footer.without_arrow_types()), lists)] if lists else []),
        ]
        least = 1 if wanted.media_columns else _MIN_BATCH_ROWS

        def pieces_of(columns: Collection[FoundColumn], of: pq.ParquetFile = parquet) -> _Pieces:
            return _cut(_batches(of, columns, ranges, least), ranges)

        parts = [*(part for _, part in sources), *({name: large[name].column} for name in large)]
        readers = [
            *(pieces_of(part.values(), one) for one, part in sources),
            *(column.pieces(stored, ranges, pieces_of) for column in large.values()),
        ]
        for (first_row, _), pieces in zip(ranges, zip(*readers, strict=True), strict=True):
            builder = _BatchBuilder(file.name, wanted, first_row, pieces, parts)
            yield builder.batch(has_status=has_status)


def _large(parquet: pq.ParquetFile, found: Mapping[str, FoundColumn]) -> dict[str, LargeColumn]:
    """Return the columns that are read value by value, by the names that they are wanted by."""
    pages = ColumnPages(parquet)
    columns = {name: pages.find(column) for name, column in found.items()}
    return {name: column for name, column in columns.items() if column is not None}


def _wanted(
    schema: pa.Schema, file: InputFile, wanted: WantedColumns, *, has_status: bool
) -> dict[str, FoundColumn]:
    """Return the columns and fields to read, by the names that they are wanted by."""
    ids = [wanted.columns.id_column] if wanted.columns.id_column is not None else []
    needed = [*ids, *wanted.recipe.columns, *wanted.media_columns]
    status = [STATUS, ERROR] if has_status else []
    found = _find(schema, list(dict.fromkeys([*needed, *wanted.kept.names, *status])))
    missing = [name for name in needed if name not in found and name not in wanted.hive_keys]
    if missing:
        raise changed(file.found, f"it has no column {missing[0]!r} any more")
    return found


def _as_list(name: str, column: FoundColumn, wanted: WantedColumns) -> bool:
    """Return whether a column's lists of fixed size are kept as lists, since some may be null."""
    if name not in wanted.kept.names or not has_fixed_lists(column.type):
        return False
    return not has_fixed_lists(wanted.kept.field(name).type)


def _batches(
    parquet: pq.ParquetFile,
    columns: Collection[FoundColumn],
    ranges: Sequence[RowRange],
    least_rows: int,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (first row, batch) of the row groups with wanted rows, up to the last such row.

    A name with dots also selects the field at that path in a struct, which is not used.
    """
    names = list(dict.fromkeys(column.parquet_path for column in columns))
    largest = max(rows for _, rows in ranges)
    batch_rows = min(max(least_rows, largest), _MAX_BATCH_ROWS)
    begin = 0
    for group in range(parquet.metadata.num_row_groups):
        end = begin + parquet.metadata.row_group(group).num_rows
        last = _last_needed(ranges, begin, end)
        row = begin
        if last > begin:
            for batch in parquet.iter_batches(
                batch_rows, row_groups=[group], columns=names, use_threads=False
            ):
                yield row, batch
                row += batch.num_rows
                if row >= last:
                    break
        begin = end


def _last_needed(ranges: Sequence[RowRange], begin: int, end: int) -> int:
    """Return the row after the last wanted one in [begin, end); `begin` if there is none."""
    ends = (
        min(first + rows, end) for first, rows in ranges if first < end and first + rows > begin
    )
    return max(ends, default=begin)


def _cut(
    batches: Iterator[tuple[int, pa.RecordBatch]], ranges: Sequence[RowRange]
) -> Iterator[list[pa.RecordBatch]]:
    """Yield the slices of batches that make up each range."""
    begin, batch = 0, None
    for first_row, rows in ranges:
        pieces, row = [], first_row
        while row < first_row + rows:
            while batch is None or begin + batch.num_rows <= row:
                following = next(batches, None)
                if following is None:
                    raise OSError(f"its row groups end before row {row}")
                begin, batch = following
            piece = batch.slice(row - begin, first_row + rows - row)
            pieces.append(piece)
            row += piece.num_rows
        yield pieces


class _BatchBuilder:
    """Makes a batch of Arrow's record batches.

    Args:
        file_name: the file, for messages.
        wanted: the columns that are read.
        first_row: the number of the batch's first row.
        pieces: of each reader of the file, the record batches that hold the rows, with some of the
            columns each.
        parts: of each reader, the columns that it reads, by the names that they are wanted by.
    """

    def __init__(
        self,
        file_name: str,
        wanted: WantedColumns,
        first_row: int,
        pieces: Sequence[Sequence[pa.RecordBatch]],
        parts: Sequence[Mapping[str, FoundColumn]],
    ) -> None:
        self._file_name = file_name
        self._wanted = wanted
        self._first_row = first_row
        self._pieces = pieces
        self._parts = parts
        self._bad = BadRows(file_name, first_row)
        self._unkept: set[str] = set()

    def batch(self, *, has_status: bool) -> RowBatch:
        """Return the batch; the first fault of a row counts, in the order id, text, title.

        Args:
            has_status: whether the columns of img2dataset say which rows have no media.
        """
        ids = self._ids()
        recipe = self._wanted.recipe
        values = {name: self._strings(name) for name in recipe.columns}
        count = len(ids)
        parts = None
        if self._wanted.media_columns:
            if has_status:
                self._note_downloads()
            parts = self._parts_of_rows(values)
        kept = [self._kept(field) for field in self._wanted.kept]
        return RowBatch(
            first_row=self._first_row,
            ids=ids,
            titles=list(values[recipe.title]) if recipe.title is not None else [None] * count,
            texts=recipe.texts([values[field] for field in recipe.fields])
            if recipe.fields
            else [None] * count,
            kept=kept_table(kept, self._wanted.kept, count),
            bad=self._bad.by_offset(),
            unkept=frozenset(self._unkept),
            parts=parts,
        )

    def _note_downloads(self) -> None:
        """Note the rows whose image img2dataset could not download."""
        for offset, (status, error) in enumerate(
            zip(self._strings(STATUS), self._strings(ERROR), strict=True)
        ):
            fault = download_fault(status, error)
            if fault is not None:
                self._bad.note(offset, *fault)

    def _parts_of_rows(self, texts: Mapping[str, list[str | None]]) -> list[tuple[RowPart, ...]]:
        """Return the texts and media of each row; none of a bad row."""
        reader = PartReader(self._wanted.columns.content)
        media = {name: self._media(name) for name in self._wanted.media_columns}
        return [
            ()
            if offset in self._bad
            else reader.parts(
                {name: values[offset] for name, values in texts.items()},
                {name: values[offset] for name, values in media.items()},
            )
            for offset in range(self._count)
        ]

    def _media(self, name: str) -> list[Any]:
        column = self._column(name)
        if column is None:
            return [None] * self._count
        try:
            return _values_of(column)
        except UnicodeDecodeError:
            return [self._one_media(name, row, column.slice(row, 1)) for row in range(self._count)]

    def _one_media(self, name: str, offset: int, value: pa.ChunkedArray) -> Any:
        try:
            return _values_of(value)[0]
        except UnicodeDecodeError as error:
            what = f"byte {error.start} of column {name!r} is not UTF-8"
            self._bad.note(offset, DeadCode.BAD_TEXT, what)
            return None

    @property
    def _count(self) -> int:
        return sum(piece.num_rows for piece in self._pieces[0])

    def _column(self, name: str) -> pa.ChunkedArray | None:
        for pieces, part in zip(self._pieces, self._parts, strict=True):
            if pieces and name in part:
                return take_column(pieces, part[name].path)
        if name in self._wanted.hive_keys:
            value = pa.scalar(self._wanted.hive_keys[name], pa.string())
            return pa.chunked_array([pa.repeat(value, self._count)])
        return None

    def _ids(self) -> pa.Array:
        name = self._wanted.columns.id_column
        if name is None:
            return generated_ids(self._file_name, self._first_row, self._count)
        column = self._column(name)
        if column is not None:
            column = _as_ids(column, self._wanted.id_type)
        ids, unfit = _convert(column, self._wanted.id_type, self._count)
        if pa.types.is_string(self._wanted.id_type):
            why = "is not UTF-8"
        else:
            why = (
                f"has a fraction, or does not fit in {self._wanted.id_type}. Use --id-type string."
            )
        for offset in unfit:
            self._bad.note(offset, DeadCode.BAD_ID, f"the id in column {name!r} {why}")
        if ids.null_count > len(unfit):
            for offset, there in enumerate(ids.is_valid().to_pylist()):
                if not there:
                    self._bad.note(
                        offset, DeadCode.MISSING_ID, f"the id in column {name!r} is null"
                    )
        return ids

    def _strings(self, name: str) -> list[str | None]:
        column = self._column(name)
        if column is None:
            return []
        try:
            values = _values_of(column)
            return values if _are_strings(column.type) else list(map(text_of, values))
        except (ValueError, OverflowError):
            rows = range(len(column))
            return [self._string(name, row, column.slice(row, 1)) for row in rows]

    def _string(self, name: str, offset: int, value: pa.ChunkedArray) -> str | None:
        try:
            return text_of(_values_of(value)[0])
        except UnicodeDecodeError as error:
            what = f"byte {error.start} of column {name!r} is not UTF-8"
        except (ValueError, OverflowError) as error:
            what = f"column {name!r} cannot be written as text: {error}"
        self._bad.note(offset, DeadCode.BAD_TEXT, what)
        return None

    def _kept(self, field: pa.Field) -> pa.Array:
        column = self._column(field.name)
        if column is not None and pa.types.is_string(field.type) and not is_text(column.type):
            # The column has different types in different files, so it is kept as text.
            texts = _as_texts(column)
            if texts.null_count > column.null_count:
                self._unkept.add(field.name)
            column = texts
        values, unfit = _convert(column, field.type, self._count)
        if unfit:
            self._unkept.add(field.name)
        return values


def _are_strings(kind: pa.DataType) -> bool:
    return is_string(kind) and not is_bytes(kind)


def _as_ids(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column of ids with NaN as null, and as text where its type has no cast to `kind`."""
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float32()) if pa.types.is_float16(column.type) else column
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if not pa.types.is_string(kind) or is_text(column.type):
        return column
    return _as_texts(column, integral=True)


def _as_texts(column: pa.ChunkedArray, *, integral: bool = False) -> pa.ChunkedArray:
    """Return the column as strings, as JSON writes its values; null for a value without a text.

    With `integral`, a floating-point number without a fraction is written as an integer.
    """

    def text(value: Any) -> str | None:
        is_integer = integral and isinstance(value, float) and value.is_integer()
        return text_of(int(value) if is_integer else value)

    def one(row: int) -> str | None:
        try:
            return text(_values_of(column.slice(row, 1))[0])
        except (ValueError, OverflowError, TypeError):
            return None

    try:
        found = list(map(text, _values_of(column)))
    except (ValueError, OverflowError, TypeError):
        found = list(map(one, range(len(column))))
    return pa.chunked_array([found], pa.string())


def _convert(
    column: pa.ChunkedArray | None, kind: pa.DataType, count: int
) -> tuple[pa.Array | pa.ChunkedArray, list[int]]:
    """Return the column with that type, and the offsets of values that do not fit, which are null.

    A column that the file does not have is all null.
    """
    if column is None:
        return pa.nulls(count, kind), []
    try:
        return _cast(column, kind), []
    except pa.ArrowException:
        pass
    rows, unfit = [], []
    for offset in range(count):
        try:
            rows.append(_cast(column.slice(offset, 1), kind))
        except pa.ArrowException:
            rows.append(pa.nulls(1, kind))
            unfit.append(offset)
    chunks = [chunk for row in rows for chunk in (row.chunks if _chunked(row) else [row])]
    return pa.concat_arrays(chunks), unfit


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """Return one array, after checking that strings are UTF-8, which Parquet does not do."""
    column.validate(full=True)
    if not column.type.equals(kind):
        plain = plain_type(column.type)
        column = column if plain.equals(column.type) else column.cast(plain)
        if not has_nanoseconds(kind):
            # Digits beyond microseconds are cut off.
            column = column.cast(in_microseconds(plain), safe=False)
        column = column if column.type.equals(kind) else column.cast(kind)
    return column if pa.types.is_dictionary(kind) else column.combine_chunks()


def _chunked(values: pa.Array | pa.ChunkedArray) -> bool:
    return isinstance(values, pa.ChunkedArray)


def _values_of(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of a column for `text_of`: in microseconds, 32-bit floats kept short.

    Raises:
        UnicodeDecodeError: a string is not UTF-8.
        ValueError, OverflowError: a date is beyond the years 1 to 9999.
    """
    plain = in_microseconds(plain_type(column.type))
    if not plain.equals(column.type):
        column = column.cast(plain, safe=False)
    values: list[Any] = column.to_pylist(maps_as_pydicts="lossy")
    short = np.float32 if pat.is_float32(plain) else np.float16
    if pat.is_float32(plain) or pat.is_float16(plain):
        # The shortest decimal that is the same float: 0.1, not 0.10000000149011612.
        return [None if value is None else float(str(short(value))) for value in values]
    return values
