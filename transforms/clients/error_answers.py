"""Read an answer without vectors: Google's error in JSON, a proxy's page, or anything else."""

from __future__ import annotations

import dataclasses
import json
import re
import urllib.parse
from typing import Any

import orjson

from bulkembed.schemas.errors import CallError
from bulkembed.schemas.models import ModelSpec, nearest_models
from bulkembed.transforms.clients.classification import (
    Reply,
    classify,
    named_cap,
    named_index,
    quota_facts,
)
from bulkembed.transforms.clients.keys import mask
from bulkembed.transforms.clients.raw_vectors import Body

PAGE_CHARS = 100
"""How many characters a message shows of a page, or of a body of unknown form."""
MAX_CHARS = 1000
"""How many characters a message has at most: it goes into a log line and into dead letters."""


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An answer without vectors, as it was read."""

    reply: Reply
    message: str
    """One line for people; the beginning if the body is a page."""
    details: object = None
    """The details of a google.rpc.Status; None if there are none."""


def holds_error(body: Body) -> bool:
    """Return whether the body of an answer with status 200 is a page, or an error in JSON."""
    begin = body[:200].lstrip()
    if begin.startswith(b"<"):
        return True
    if not begin.startswith((b"{", b"[")) or b'"error"' not in begin:
        return False
    return bool(_error_of(_loaded(body)))


def read_error(status: int, body: Body, location: str = "") -> ErrorAnswer:
    """Read an answer; never raise, whatever the body is.

    Args:
        status: the HTTP status; if it is 200, the status of the error inside counts.
        body: decompressed, or its beginning.
        location: the target of a redirect.
    """
    answer = _loaded(body)
    error = _error_of(answer)
    if answer is None:
        text = _one_line(body.decode(errors="replace"))
        page = text.startswith("<")
        begin = f"{text[:PAGE_CHARS]!r}"
        message = f"a page instead of JSON, which begins {begin}" if page else begin
        if location:
            message = f"a redirect to {_one_line(location)[:PAGE_CHARS]}"
        return ErrorAnswer(Reply(status, "" if page else text[:MAX_CHARS], page=page), message)
    inner = error.get("code")
    if status == 200 and isinstance(inner, int):
        status = inner if 400 <= inner < 600 else 500
    rpc, details = str(error.get("status") or ""), error.get("details")
    message = _one_line(str(error.get("message") or rpc or ""))[:MAX_CHARS]
    message = message or repr(_one_line(body.decode(errors="replace"))[:PAGE_CHARS])
    words = f"{message} {json.dumps(details, default=str)}"
    return ErrorAnswer(Reply(status, words, rpc), message, details)


def call_error(
    answer: ErrorAnswer, spec: ModelSpec, base_url: str | None, key: str | None, texts: int
) -> CallError:
    """Return the error that an answer stands for.

    Args:
        answer: the answer of the service.
        spec: the model that was called.
        base_url: the address of the service; None for Google's.
        key: masked in the message.
        texts: how many contents the call had.
    """
    message = mask(answer.message, key)
    rule = classify(answer.reply)
    quota = quota_facts(answer.details)
    facts: dict[str, Any] = {
        "http_status": answer.reply.status,
        "code": rule.name,
        "service_message": message,
        "retry_delay_s": quota.delay_s,
        "index": named_index(answer.message),
    }
    if rule.name == "batch_size":
        facts["max_texts"] = named_cap(answer.message, texts)
    if rule.name == "quota":
        facts |= {"quota_id": quota.quota_id, "quota_value": quota.quota_value}
    cure = rule.cure
    if rule.name == "model_gone":
        cure = missing_model_cure(spec, cure)
    if rule.name == "path":
        cure = missing_path_cure(base_url, cure)
    sentence = f"the service answered {answer.reply.status}: {message}"
    return rule.error(f"{sentence.rstrip('.')}. {cure}" if cure else sentence, **facts)


def missing_model_cure(spec: ModelSpec, cure: str) -> str:
    """Return what to do about a model that the service does not have."""
    if spec.successor:
        return f"{spec.name} is no longer served. Use --model {spec.successor} and a new output."
    if spec.known:
        return f"--model {spec.name} is not served there. {cure}"
    near = nearest_models(spec.name)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return f"--model {spec.name} is unknown. {hint}Run `bulkembed models` for a list."


def missing_path_cure(base_url: str | None, cure: str) -> str:
    """Return what to do about an address at which there is no service."""
    path = urllib.parse.urlsplit(base_url or "").path.strip("/")
    if re.search(r"(^|/)v\d+\w*$", path):
        return (
            f"--base-url {base_url} ends with an API version, which bulkembed adds itself. Remove "
            f"/{path.rsplit('/', 1)[-1]}, and use --api-version to choose another version."
        )
    return cure


def _loaded(body: Body) -> Any:
    """Return the JSON of a body, without the list that Google sometimes adds; None if not JSON."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return answer[0] if isinstance(answer, list) and len(answer) == 1 else answer


def _error_of(answer: Any) -> dict[str, Any]:
    """Return the error in an answer, in Google's form or in another server's."""
    if not isinstance(answer, dict):
        return {}
    error = answer.get("error")
    if isinstance(error, dict):
        return error
    text = next((answer[key] for key in ("message", "detail", "error") if answer.get(key)), None)
    return {} if text is None else {"message": text if isinstance(text, str) else json.dumps(text)}


def _one_line(text: str) -> str:
    return " ".join(text.split())
