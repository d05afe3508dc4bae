"""Paths with the date of a run: `embeddings/dt={date}`."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

from bulkembed.pipeline.logs import log
from bulkembed.schemas.errors import ConfigError

_DATED = ("patterns", "output", "reuse")
"""The options whose paths may have a date."""
_DATE = re.compile(r"\{date(?:-(\d{1,4}))?\}")


def with_date(options: Mapping[str, Any], today: dt.date) -> dict[str, Any]:
    """Return the options with `{date}` and `{date-1}` in paths replaced, in the form 2024-01-31.

    Args:
        options: of a run; `date` is the date to use, or None for today.
        today: the date in UTC.

    Raises:
        ConfigError: a date is given, but no path has one.
    """
    given = options.get("date")
    day = today if given is None else dt.date.fromisoformat(given)
    filled = {name: _filled(options[name], day) for name in _DATED if options.get(name)}
    if all(filled[name] == options[name] for name in filled):
        if given is not None:
            raise ConfigError(
                f"--date {given}: no path has a date. Write {{date}} in --output, --input or "
                "--reuse, as in 'embeddings/dt={date}'."
            )
        return dict(options)
    if given is None:
        log.info("the date in paths is %s, today in UTC. Use --date for another day.", day)
    return {**options, **filled, "date": str(day)}


def _filled(value: Any, day: dt.date) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_filled(one, day) for one in value)
    return _DATE.sub(lambda found: str(day - dt.timedelta(days=int(found[1] or 0))), value)
