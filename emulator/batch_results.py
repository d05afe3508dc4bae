"""The results of a batch job: which rows get what, and the lines."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from bulkembed.emulator.api_errors import ApiError
from bulkembed.emulator.batch_rows import InvalidLine, Row, RowTable, read_line
from bulkembed.emulator.batch_settings import BadLine, KeyForm, RowFault, TokenForm, VectorForm
from bulkembed.emulator.calls import embed_items, tokenize
from bulkembed.emulator.targets import Target

_RPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 429: 8, 499: 1, 500: 13, 503: 14, 504: 4}
"""google.rpc.Code by HTTP status."""
_ROW_ERRORS = {
    400: "Request contains an invalid argument.",
    429: "Resource has been exhausted (e.g. check quota).",
    500: "Internal error encountered.",
    503: "The model is overloaded. Please try again later.",
    504: "Deadline expired before operation could complete.",
}


@dataclasses.dataclass(frozen=True)
class ResultPlan:
    """What the rows of a job get."""

    order: list[int]
    """The rows in the order of their lines."""
    faults: dict[int, RowFault]
    errors: dict[int, ApiError]

    def answered(self, count: int) -> list[int]:
        """Return those of the first `count` rows that get a vector, even a damaged one."""
        return [
            row
            for row in self.order[:count]
            if row not in self.errors and self.faults.get(row) is not RowFault.MISSING
        ]

    def failed(self, count: int) -> int:
        """Return how many of the first `count` rows get an error."""
        return sum(row in self.errors for row in self.order[:count])


def plan_results(target: Target, table: RowTable, number: int) -> ResultPlan:
    """Draw the order and the faults of a job's rows; the job's number makes the difference."""
    settings = target.settings.batch
    source = random.Random(f"{target.settings.seed} rows {number}")
    order = list(range(len(table)))
    if settings.shuffle:
        source.shuffle(order)
    faults: dict[int, RowFault] = {}
    errors = dict(table.errors)
    for row in range(len(table)) if settings.row_faults else ():
        drawn = source.random()
        for fault, share in settings.row_faults:
            if drawn < share and row not in errors:
                if fault in set(RowFault):
                    faults[row] = RowFault(fault)
                else:
                    errors[row] = _row_error(int(fault))
                break
            drawn -= share
    return ResultPlan(order, faults, errors)


def job_failure(target: Target, table: RowTable) -> ApiError | None:
    """Return the error of a job whose input fails it as a whole."""
    if not len(table):
        return ApiError(400, "The input file has no requests.")
    if table.errors and target.settings.batch.bad_line is BadLine.JOB:
        row, error = min(table.errors.items(), key=lambda one: one[0])
        return ApiError(error.code, f"Line {row + 1} of the input file: {error.message}")
    return None


def write_results(
    target: Target, table: RowTable, plan: ResultPlan, count: int, path: Path
) -> None:
    """Write the lines of the first `count` rows of the plan to a file."""
    with path.open("wb") as file:
        for line in result_lines(target, table, plan, count):
            file.write(line)


def result_lines(target: Target, table: RowTable, plan: ResultPlan, count: int) -> Iterator[bytes]:
    """Yield the lines of the first `count` rows of the plan."""
    for rows in table.chunks(plan.order[:count]):
        yield from _chunk_lines(target, table, plan, rows)


def _chunk_lines(
    target: Target, table: RowTable, plan: ResultPlan, rows: Sequence[int]
) -> Iterator[bytes]:
    read = dict(zip(rows, map(_Line, [target] * len(rows), table.lines(rows)), strict=True))
    for row, line in read.items():
        if line.error is not None:  # A file that it names may be gone since the job began.
            plan.errors.setdefault(row, line.error)
    embedded = [row for row in rows if row not in plan.errors]
    vectors: dict[int, Any] = {}
    if embedded:
        items = [_row(read[row]).item for row in embedded]
        found = embed_items(target, tokenize(target, items))
        vectors = dict(zip(embedded, found, strict=True))
    for row in rows:
        fault = plan.faults.get(row)
        if fault is RowFault.MISSING:
            continue
        line = read[row]
        if row in plan.errors:
            yield _encode(line.head(target) | _failure(target, plan.errors[row]), None)
            continue
        body = line.head(target) | _answer(target, vectors[row], table.tokens[row], fault)
        encoded = _encode(body, fault)
        yield encoded
        if fault is RowFault.DOUBLE:
            yield encoded
        elif fault is RowFault.FOREIGN:
            yield _encode(line.head(target, f"foreign-{row}") | _tail(body), None)


class _Line:
    """An input line, valid or not."""

    def __init__(self, target: Target, raw: bytes) -> None:
        self.row: Row | None = None
        self.error: ApiError | None = None
        try:
            self.row = read_line(target, raw)
            self.key, self.metadata = self.row.key, self.row.metadata
        except InvalidLine as error:
            self.key, self.metadata, self.error = error.key, error.metadata, error.error
            self.raw = raw

    def head(self, target: Target, key: str | None = None) -> dict[str, Any]:
        """Return the part of the result that identifies the row; `key` instead of its own."""
        settings = target.settings.batch
        form = settings.key_form
        in_metadata = form is KeyForm.METADATA or (
            form is KeyForm.AS_INPUT and self.metadata is not None
        )
        shown = self.key if key is None else key
        body: dict[str, Any] = {}
        if in_metadata and not target.vertex:
            metadata = dict(self.metadata or {})
            body["metadata"] = metadata | ({} if shown is None else {"key": shown})
        elif shown is not None:
            body["key"] = shown
        if target.vertex or settings.echo_request:
            body["request"] = self.row.request if self.row else _request_of(self.raw)
        return body


def _row(line: _Line) -> Row:
    assert line.row is not None
    return line.row


def _request_of(raw: bytes) -> Any:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return value.get("request") if isinstance(value, dict) else None


def _answer(target: Target, vector: Any, tokens: int, fault: RowFault | None) -> dict[str, Any]:
    settings = target.settings.batch
    values = vector
    if fault is RowFault.WRONG_DIM:
        values = vector[:-1]
    elif fault is RowFault.NULL:
        values = [None] * len(vector)
    elif fault is RowFault.NAN:
        values = [*map(float, vector[:-1]), "NaN"]
    response: dict[str, Any] = {}
    if settings.vector_form is VectorForm.EMBEDDINGS and not target.vertex:
        response["embeddings"] = [{"values": values}]
    else:
        response["embedding"] = {"values": values}
    if target.vertex or settings.token_form is TokenForm.STRING:
        response = {"tokenCount": str(tokens)} | response
    elif settings.token_form is TokenForm.NUMBER:
        response["tokenCount"] = tokens
    return {"response": response}


def _tail(body: dict[str, Any]) -> dict[str, Any]:
    return {"response": body["response"]}


def _failure(target: Target, error: ApiError) -> dict[str, Any]:
    if target.vertex:
        return {"status": f"{error.status}: {error.message}"}
    code = error.code if target.settings.batch.http_codes else rpc_code(error)
    return {"error": {"code": code, "message": error.message}}


def rpc_code(error: ApiError) -> int:
    """Return an error's google.rpc.Code."""
    return _RPC_CODES.get(error.code, 2)


def _row_error(status: int) -> ApiError:
    return ApiError(status, _ROW_ERRORS.get(status, "The request failed."))


def _encode(body: dict[str, Any], fault: RowFault | None) -> bytes:
    line = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    if fault is RowFault.NAN:
        line = line.replace(b'"NaN"', b"NaN")
    elif fault is RowFault.BROKEN_JSON:
        line = line[: len(line) // 2]
    return line + b"\n"


def inline_results(lines: Iterable[bytes]) -> list[orjson.Fragment]:
    """Return the lines of a job's results as JSON values, for a job with inline requests."""
    return [orjson.Fragment(line) for line in lines]
