from __future__ import annotations

import importlib
import inspect

import pytest

from bulkembed.transforms.inputs.formats import FORMATS, InputFormat, codec_of, format_of_name
from bulkembed.transforms.inputs.input_files import (
    FooterFormat,
    FormatModule,
    StreamFormat,
)


@pytest.mark.parametrize("known", FORMATS.values(), ids=FORMATS)
def test_the_module_of_a_format_has_both_functions(known: InputFormat) -> None:
    scan = FooterFormat.scan_footer if known.last_bytes else StreamFormat.scan
    for function in (scan, FormatModule.read):
        found = inspect.signature(getattr(importlib.import_module(known.module), function.__name__))
        wanted = inspect.signature(function)
        assert list(found.parameters.values()) == list(wanted.parameters.values())[1:]
        assert found.return_annotation == wanted.return_annotation


def test_no_two_formats_share_an_ending_or_a_name() -> None:
    endings = [ending for known in FORMATS.values() for ending in known.endings]
    assert len(endings) == len(set(endings))
    assert [known.name for known in FORMATS.values()] == list(FORMATS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.parquet", ("parquet", None)),
        ("a.PQ", ("parquet", None)),
        ("a.jsonl.gz", ("jsonl", "gzip")),
        ("a.ndjson.zst", ("jsonl", "zstd")),
        ("a.json.bz2", ("jsonl", "bz2")),
        ("a.parquet.gz", ("parquet", None)),
        ("a.jsonl.2026-11-27", ("jsonl", None)),
        ("a.jsonl.crc", (None, None)),
        ("a.gz", (None, "gzip")),
        ("jsonl", (None, None)),
        ("a.orc", (None, None)),
    ],
)
def test_a_name_promises_a_format_and_a_compression(
    name: str, expected: tuple[str | None, str | None]
) -> None:
    known, codec = format_of_name(name)
    assert (known.name if known is not None else None, codec) == expected


@pytest.mark.parametrize(
    ("head", "codec"),
    [
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x28\xb5\x2f\xfd\x00", "zstd"),
        (b"BZh91AY", "bz2"),
        (b"BZh0", None),
        (b"{}", None),
        (b"", None),
    ],
)
def test_the_first_bytes_tell_the_compression(head: bytes, codec: str | None) -> None:
    assert codec_of(head) == codec
