"""`--sync` with nested fields, hive keys, and an id that keeps its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.cli import bulkembed, read, run, summary

from bulkembed.emulator.server import EmulatorServer


def write(folder: Path, lang: str, *rows: dict[str, Any]) -> None:
    path = folder / f"lang={lang}"
    path.mkdir(parents=True, exist_ok=True)
    (path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def item(sku: str, text: str, price: int) -> dict[str, Any]:
    return {"key": {"sku": sku}, "doc": {"text": text, "price": price}}


@pytest.mark.parametrize("long_text", ["truncate", "passages"])
def test_rows_are_compared_by_nested_fields_and_hive_keys(
    tmp_path: Path, server: EmulatorServer, long_text: str
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    write(folder, "de", item("a", "ein Hund", 1), item("b", "eine Katze", 2))
    write(folder, "en", item("c", "a dog", 3), item("d", "a cat", 4))
    flags = (
        "--sync", "--id-column", "key.sku", "--id-name", "sku", "--text-column", "doc.text",
        "--keep-columns", "doc.price,lang", "--dim", 128, "--long-text", long_text,
        "--max-delete", "50%",
    )  # fmt: skip
    ended = run(server.url, folder, output, *flags)
    assert ended.code == 0, ended.err
    # b moves to another folder, c has another price, d is gone, e is new.
    write(folder, "de", item("a", "ein Hund", 1))
    write(folder, "en", item("c", "a dog", 5), item("b", "eine Katze", 2), item("e", "rain", 6))
    ended = run(server.url, folder, output, *flags)
    assert ended.code == 0, ended.err
    table = read(output)
    rows = zip(*(table[name].to_pylist() for name in ("sku", "doc.price", "lang")), strict=True)
    assert set(rows) == {("a", 1, "de"), ("b", 2, "en"), ("c", 5, "en"), ("e", 6, "en")}
    assert summary(output)["counts"]["texts"] == 1
    service = ("--base-url", server.url)
    verified = bulkembed("verify", output, "--against", folder, "--sample", 2, *service)
    assert verified.code == 0, verified.out
    again = run(server.url, folder, output, *flags)
    assert again.code == 0, again.err
    assert read(output).equals(table)
