"""Times on the command line: `90`, `30s`, `10m`, `2h`, `1h30m`."""

from __future__ import annotations

import re
from typing import Any

import click

_PATTERN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


class Duration(click.ParamType[float]):
    """Seconds, written with units or without."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds that the text stands for."""
        if isinstance(value, int | float):
            return float(value)
        found = _PATTERN.fullmatch(str(value).strip().lower())
        if not found or not any(found.groups()):
            self.fail(f"{value!r} is no time; write 30s, 10m, 2h or 1h30m", param, ctx)
        hours, minutes, seconds = (float(group or 0) for group in found.groups())
        return hours * 3600 + minutes * 60 + seconds
