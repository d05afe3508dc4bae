from __future__ import annotations

import io

import pytest

from bulkembed.pipeline.cli.show import show_lines, show_table

LONG = "word " * 60


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(
    headings: tuple[str, ...], rows: list[tuple[str, ...]], stream: io.StringIO, **options: object
) -> list[str]:
    show_table(headings, rows, stream, **options)
    return stream.getvalue().splitlines()


def test_a_row_in_a_file_is_one_line_that_ends_with_its_last_word() -> None:
    rows = [("a", LONG, "yes"), ("b", "short", ""), ("c", "", "a longer verdict")]
    lines = shown(("name", "found", "verdict"), rows, io.StringIO())
    assert [line.split()[0] for line in lines] == ["name", "a", "b", "c"]
    assert [line.split()[-1] for line in lines] == ["verdict", "yes", "short", "verdict"]
    assert lines == [line.rstrip() for line in lines]


def test_numbers_in_a_file_are_aligned_at_the_right() -> None:
    lines = shown(("rows", "file"), [("1", "a"), ("1,000", "b")], io.StringIO(), right=("rows",))
    assert lines == [" rows  file", "    1  a", "1,000  b"]


def test_a_wide_cell_on_a_terminal_fills_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    rows = [("a", LONG)]
    assert len(shown(("name", "found"), rows, Terminal())) > 5
    assert len(shown(("name", "found"), rows, Terminal(), folds=False)) == 2


def test_a_cell_is_shown_as_it_is_but_for_control_characters() -> None:
    assert shown(("cell",), [("[bold]a\x1b[2Jb",)], io.StringIO())[1] == "[bold]a\\x1b[2Jb"


def test_a_line_without_a_text_ends_with_its_name() -> None:
    out = io.StringIO()
    show_lines([("rows", "3"), ("a longer name", "")], out)
    assert out.getvalue() == "rows           3\na longer name\n"
