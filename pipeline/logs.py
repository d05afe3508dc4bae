"""The log on standard error: sentences for people, or one JSON object per line for machines."""

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
"""Control characters except tab and line break, text direction marks, and lone surrogates."""


def printable(text: str) -> str:
    """Return a text with control characters escaped, which could change the terminal."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class PlainLines(logging.Formatter):
    """Formats a log record for people. Secrets are masked, also in tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines, without the line end."""
        return printable(masked(super().format(record)))


class JsonLines(logging.Formatter):
    """Formats a log record as one JSON object on one line.

    `time` (UTC), `level`, `event` and `message` are always present. A record with the extra
    `event`, a pair of a name and facts, has the facts under that name. The event of all other
    records is `log`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without the line end."""
        name, facts = getattr(record, "event", ("log", None))
        more = {} if facts is None else {name: facts}
        if record.exc_info:
            more["traceback"] = self.formatException(record.exc_info)
        level = record.levelname.lower()
        return masked(json_line(record.created, level, name, record.getMessage(), **more))


def json_line(at: float, level: str, event: str, message: str, **more: object) -> str:
    """Return one event as JSON; `at` is in epoch seconds."""
    import orjson

    time = dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="milliseconds")
    facts: dict[str, Any] = {"time": time, "level": level, "event": event, "message": message}
    return orjson.dumps(facts | more, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def set_log(level: str = "info", *, as_json: bool = False) -> None:
    """Send our log to standard error, and the logs of libraries only at level debug."""
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


class _MaskSecrets(logging.Filter):
    """Masks secrets in the message of a record, whatever formats it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record, and keep it."""
        record.msg, record.args = masked(record.getMessage()), None
        return True


def mask_records() -> None:
    """Mask secrets in the log, whose handlers and formats are those of another program."""
    if not any(isinstance(one, _MaskSecrets) for one in log.filters):
        log.addFilter(_MaskSecrets())


def is_json() -> bool:
    """Return whether the log is JSON."""
    return any(isinstance(handler.formatter, JsonLines) for handler in log.handlers)
