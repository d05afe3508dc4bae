"""The page of a report, read as a browser would, without one."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from typing import Any


class Page(html.parser.HTMLParser):
    """The elements of a page, the text of its body, and its charts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.cells: dict[str, list[list[str]]] = {}
        """The rows of the tables of each section, by its id; a head is a row."""
        self._in_script = self._in_cell = False
        self._section = ""
        source = path.read_text()
        self.feed(source)
        [charts] = re.findall(r"^const figures = (.*);$", source, re.MULTILINE)
        self.charts: dict[str, Any] = json.loads(charts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
        rows = self.cells.setdefault(self._section, [])
        if tag == "tr":
            rows.append([])
        elif tag in ("td", "th"):
            rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += "" if self._in_script else data
        if self._in_cell:
            self.cells[self._section][-1][-1] += data

    def rows(self, chart: str) -> list[dict[str, Any]]:
        """The rows that a chart draws, layer by layer."""
        spec = self.charts[chart]
        layers = spec.get("layer", [spec])
        return [row for layer in layers for row in spec["datasets"][layer["data"]["name"]]]
