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
        self._in_script = False
        source = path.read_text()
        self.feed(source)
        [charts] = re.findall(r"^const figures = (.*);$", source, re.MULTILINE)
        self.charts: dict[str, Any] = json.loads(charts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"

    def handle_data(self, data: str) -> None:
        self.text += "" if self._in_script else data

    def rows(self, chart: str) -> list[dict[str, Any]]:
        """The rows that a chart draws, layer by layer."""
        spec = self.charts[chart]
        layers = spec.get("layer", [spec])
        return [row for layer in layers for row in spec["datasets"][layer["data"]["name"]]]
