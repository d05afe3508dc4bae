"""Hooks of mkdocs."""

from __future__ import annotations

import re

_CELL = re.compile(r"<td.*?</td>", re.DOTALL)


def on_page_content(html: str, **_: object) -> str:
    r"""Remove the backslash of `\|` in table cells: GitHub needs it, Markdown keeps it in code."""
    return _CELL.sub(lambda cell: cell[0].replace(r"\|", "|"), html)
