"""The log: sentences for people on standard error, or one JSON object a line for machines."""

from __future__ import annotations

import datetime as dt
import logging
import re
import sys
from typing import Any

from bulkembed.schemas.secrets import masked

log = logging.getLogger("bulkembed")

NOISY = ("apache_beam", "google_genai", "httpx2", "httpcore2", "root")


_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tab and line break, marks of text direction, and lone surrogates."""


def printable(text: str) -> str:
    """Return a text without escape sequences, which would act on the terminal."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class PlainLines(logging.Formatter):
    """A log record as sentences for people; secrets are masked, tracebacks with them."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines, without their end."""
        return printable(masked(super().format(record)))


class JsonLines(logging.Formatter):
    """A log record as one JSON object a line.

    `time` (UTC), `level`, `event` and `message` are always there.  A record with the extra `event`,
    a pair of a name and facts, has the facts under that name; the event of all others is `log`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        name, facts = getattr(record, "event", ("log", None))
        more = {} if facts is None else {name: facts}
        if record.exc_info:
            more["traceback"] = self.formatException(record.exc_info)
        level = record.levelname.lower()
        return masked(json_line(record.created, level, name, record.getMessage(), **more))


def json_line(at: float, level: str, event: str, message: str, **more: object) -> str:
    """One event as JSON; `at` in epoch seconds."""
    import orjson

    time = dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="milliseconds")
    facts: dict[str, Any] = {"time": time, "level": level, "event": event, "message": message}
    return orjson.dumps(facts | more, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def set_log(level: str = "info", *, as_json: bool = False) -> None:
    """Sends our own log to standard error, and that of libraries only when debugging."""
    handler = logging.StreamHandler(sys.stderr)
    plain = PlainLines("bulkembed: %(message)s")
    handler.setFormatter(JsonLines() if as_json else plain)
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(level.upper())
    if as_json:
        logging.getLogger().handlers[:] = [handler]
    if level != "debug":
        logging.getLogger().setLevel(logging.ERROR)
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.ERROR)


def is_json() -> bool:
    """Whether the log is for machines."""
    return any(isinstance(handler.formatter, JsonLines) for handler in log.handlers)
