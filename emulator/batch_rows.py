"""The rows of a batch job: its input lines, read once, and what is known of each."""

from __future__ import annotations

import array
import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from bulkembed.emulator import wire
from bulkembed.emulator.api_errors import ApiError, bad_field, invalid
from bulkembed.emulator.calls import may_cut, paid_keys, tokenize, too_long
from bulkembed.emulator.canned import TOKENS_PER_TEXT
from bulkembed.emulator.faults import text_failure
from bulkembed.emulator.media_rules import Modality
from bulkembed.emulator.rules import read_row
from bulkembed.emulator.targets import Item, Target

CHUNK = 256
"""The rows that are read, tokenized and embedded together."""
CHUNK_BYTES = 8 << 20
"""The maximum bytes of their lines, unless it is a single row: those with media are large."""
_LINE = frozenset({"key", "request", "metadata"})


class InvalidLine(Exception):
    """Raised for a line that is no valid request; `key` and `metadata` as far as they are known."""

    def __init__(self, error: ApiError, key: str | None, metadata: Any) -> None:
        super().__init__(error.message)
        self.error, self.key, self.metadata = error, key, metadata


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A line of the input."""

    key: str | None
    metadata: Any
    """The line's `metadata`; None if it has its key beside its request."""
    request: Any
    item: Item


def read_line(target: Target, line: bytes) -> Row:
    """Return the row of a line.

    Raises:
        InvalidLine: the line is no valid request.
    """
    key, metadata = None, None
    try:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise bad_field("", f"Failed to parse JSON: {error}") from error
        message = wire.Message(value, "", _LINE)
        key, metadata = message.text("key"), message.get("metadata")
        if metadata is not None:
            if not isinstance(metadata, dict):
                raise wire.wrong_value("metadata", "type.googleapis.com/google.protobuf.Struct", 0)
            key = _text(metadata, "key") if key is None else key
        if "request" not in message:
            raise invalid("* EmbedContentRequest: request is required\n")
        return Row(key, metadata, message.get("request"), read_row(target, message.get("request")))
    except ApiError as error:
        raise InvalidLine(error, key, metadata) from error


def _text(metadata: dict[str, Any], name: str) -> str | None:
    value = metadata.get(name)
    if value is not None and not isinstance(value, str):
        raise wire.wrong_value(f"metadata.{name}", "TYPE_STRING", value)
    return value


class RowTable:
    """A few numbers for each row of a job, about 24 bytes; the lines stay on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offsets = array.array("q")
        self.tokens = array.array("l")
        self.keys = array.array("q")
        """The hash of each row's content, see `paid_keys`."""
        self.media: dict[int, Mapping[Modality, int]] = {}
        """The tokens by modality of the rows with media."""
        self.errors: dict[int, ApiError] = {}
        """The rows that are no valid requests."""

    def __len__(self) -> int:
        return len(self.offsets)

    def chunks(self, rows: Sequence[int]) -> Iterator[list[int]]:
        """Yield rows in their order, as many as are processed together."""
        end = self.path.stat().st_size if len(self) else 0
        chunk: list[int] = []
        size = 0
        for row in rows:
            after = self.offsets[row + 1] if row + 1 < len(self) else end
            length = after - self.offsets[row]
            if len(chunk) == CHUNK or (chunk and size + length > CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(row)
            size += length
        if chunk:
            yield chunk

    def lines(self, rows: Sequence[int]) -> list[bytes]:
        """Return the lines of some rows."""
        found = []
        with self.path.open("rb") as file:
            for row in rows:
                file.seek(self.offsets[row])
                found.append(file.readline())
        return found

    def tokens_by_modality(self, rows: Iterable[int]) -> dict[Modality, int]:
        """Return the tokens of some rows."""
        found: collections.Counter[Modality] = collections.Counter()
        for row in rows:
            found.update(self.media.get(row, {Modality.TEXT: self.tokens[row]}))
        return dict(found)

    def add(self, offset: int, tokens: int, key: int) -> None:
        """Add a row."""
        self.offsets.append(offset)
        self.tokens.append(tokens)
        self.keys.append(key)


def scan(target: Target, path: Path) -> RowTable:
    """Read and check all rows of a file."""
    table = RowTable(path)
    items: dict[int, Item] = {}
    for offset, line in _lines(path):
        row = len(table)
        table.add(offset, 0, 0)
        try:
            items[row] = read_line(target, line).item
        except InvalidLine as error:
            table.errors[row] = error.error
        if len(items) == CHUNK:
            _measure(target, table, items)
            items = {}
    _measure(target, table, items)
    return table


def scan_unchecked(path: Path) -> RowTable:
    """Read the rows of a file for benchmarks: only where they are."""
    table = RowTable(path)
    for offset, line in _lines(path):
        table.add(offset, TOKENS_PER_TEXT, hash(line))
    return table


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not blank, with its offset."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            if not line.isspace():
                yield offset, line
            offset += len(line)


def _measure(target: Target, table: RowTable, items: Mapping[int, Item]) -> None:
    """Enter what is known of valid rows: their tokens, their hashes, and whether they fail."""
    if not items:
        return
    rows, values = list(items), list(items.values())
    prepared = tokenize(target, values)
    for place, content in prepared.media.items():
        table.media[rows[place]] = content.tokens
    facts = zip(rows, values, prepared.counts, prepared.cut, paid_keys(target, values), strict=True)
    for row, item, count, is_long, key in facts:
        table.tokens[row], table.keys[row] = count, key
        if is_long and not may_cut(target, item):
            table.errors[row] = too_long(target)
        elif (failure := text_failure(target.settings, [item.sent])) is not None:
            table.errors[row] = failure
