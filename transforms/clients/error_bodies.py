"""The body of an answer without vectors: Google's error in JSON, a proxy's page, or anything."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import orjson

from bulkembed.transforms.core.verdict import Reply

PAGE_CHARS = 100
"""How many characters of a page, or of a body of unknown form, a message shows."""
MOST_CHARS = 1000
"""Of a message: it goes into a log line and into dead letters."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """What an answer without vectors says.

    `message` is one line for people; of a page it is the beginning.  `details` are those of a
    google.rpc.Status, None where there are none.
    """

    reply: Reply
    message: str
    details: object = None

    @classmethod
    def is_one(cls, body: bytes) -> bool:
        """Whether the body of an answer with status 200 holds a page, or an error in JSON."""
        begun = body[:200].lstrip()
        if begun.startswith(b"<"):
            return True
        if not begun.startswith((b"{", b"[")) or b'"error"' not in begun:
            return False
        return bool(_error_of(_loaded(body)))

    @classmethod
    def read(cls, status: int, body: bytes, location: str = "") -> Refusal:
        """Return what the answer says; never raises, whatever the body is.

        Args:
            status: of HTTP; where it is 200, the status of the error inside counts.
            body: decompressed, or its beginning.
            location: where a redirect points to.
        """
        answer = _loaded(body)
        error = _error_of(answer)
        if answer is None:
            text = _line(body.decode(errors="replace"))
            page = text.startswith("<")
            begins = f"{text[:PAGE_CHARS]!r}"
            said = f"a page instead of JSON, which begins {begins}" if page else begins
            if location:
                said = f"a redirect to {_line(location)[:PAGE_CHARS]}"
            return cls(Reply(status, "" if page else text[:MOST_CHARS], page=page), said)
        inner = error.get("code")
        if status == 200 and isinstance(inner, int):
            status = inner if 400 <= inner < 600 else 500
        rpc, details = str(error.get("status") or ""), error.get("details")
        said = _line(str(error.get("message") or rpc or ""))[:MOST_CHARS]
        said = said or repr(_line(body.decode(errors="replace"))[:PAGE_CHARS])
        words = f"{said} {json.dumps(details, default=str)}"
        return cls(Reply(status, words, rpc), said, details)


def _loaded(body: bytes) -> Any:
    """The JSON of a body, out of the list of one that Google sometimes puts it in; else None."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return answer[0] if isinstance(answer, list) and len(answer) == 1 else answer


def _error_of(answer: Any) -> dict[str, Any]:
    """The error that an answer holds, in Google's form or in another server's."""
    if not isinstance(answer, dict):
        return {}
    error = answer.get("error")
    if isinstance(error, dict):
        return error
    said = next((answer[key] for key in ("message", "detail", "error") if answer.get(key)), None)
    return {} if said is None else {"message": said if isinstance(said, str) else json.dumps(said)}


def _line(text: str) -> str:
    return " ".join(text.split())
