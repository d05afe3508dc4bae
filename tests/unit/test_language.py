"""Docs, messages and docstrings use the standard words of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "pipeline/report/page.html",
    *sorted((ROOT / "docs").glob("*.md")),
]
FOLDERS = ("benchmarks", "dataflow", "emulator", "examples", "pipeline", "schemas", "transforms")
CODE = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
INLINE_CODE = re.compile(r"`[^`\n]*`")
PROGRAMS = re.compile(r"^```(?!text)\w*\n.*?^```$", re.MULTILINE | re.DOTALL)


def nonstandard_phrases() -> list[str]:
    """Return the left-hand phrases of the table of words."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text[text.index("| not | but |") :].split("\n\n")[0]
    cells = re.findall(r"^\| ([^|]+) \| ", table, re.MULTILINE)[1:]
    return [phrase for cell in cells for phrase in cell.split(", ") if "|" not in phrase]


PHRASES = nonstandard_phrases()
PATTERN = re.compile(rf"\b(?:{'|'.join(map(re.escape, PHRASES))})\b", re.IGNORECASE)


def prose_of(page: Path) -> str:
    """Return a page without programs and inline code, in which line breaks are spaces."""
    text = PROGRAMS.sub("", page.read_text())
    return " ".join(INLINE_CODE.sub("`", text).split())


def texts_of(module: Path) -> Iterator[str]:
    """Yield the string literals of a module that consist of several words, docstrings included."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield " ".join(node.value.split())


def found_in(text: str) -> list[str]:
    return [text[max(0, at.start() - 40) : at.end() + 40] for at in PATTERN.finditer(text)]


def test_the_table_of_words_is_read() -> None:
    assert {"anew", "in the air", "given up on"} <= set(PHRASES)
    assert found_in("16 calls are in the air.") == ["16 calls are in the air."]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_use_the_standard_words(page: Path) -> None:
    assert found_in(prose_of(page)) == []


@pytest.mark.parametrize("module", CODE, ids=lambda module: str(module.relative_to(ROOT)))
def test_messages_and_docstrings_use_the_standard_words(module: Path) -> None:
    assert [place for text in texts_of(module) for place in found_in(text)] == []
