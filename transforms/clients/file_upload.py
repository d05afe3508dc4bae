"""Upload a file to the Files API in pieces; a broken upload is resumed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from bulkembed.schemas.errors import BadAnswer, CallError, CallRejected, Unavailable
from bulkembed.transforms.clients.decoding import load_object
from bulkembed.transforms.clients.retry_policy import Retries, RetryPolicy
from bulkembed.transforms.clients.service_calls import ServiceCalls
from bulkembed.transforms.clients.whole_answers import WholeAnswer

PIECE_BYTES = 8 << 20
"""How much one request sends at most, as google-genai does."""
MIME_TYPES = ("application/jsonl", "jsonl", "application/json-lines", "text/plain")
"""What is tried for JSONL, in turn: the service has rejected each of the first three at times.

Source: google-gemini/cookbook#1008 and googleapis/python-genai#1547, 2025-10.
"""
_FILE_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_CONFLICT = 409
_NO_FILE = (403, 404)
"""The statuses for a file that does not exist.

Source: google-gemini/deprecated-generative-ai-js#236, 2024-08.
"""
_LOST = (400, 404, 409, 410, 412, 416)
"""The statuses for a step that does not fit what the service knows of an upload."""


class _Session(NamedTuple):
    """A started upload."""

    url: str
    piece_bytes: int


class FileUpload:
    """Uploads one file under an id of our own, so that it is found even if an answer is lost.

    Args:
        calls: calls the service.
        version: the version of its API.
        path: the file.
        file_id: its id at the service: at most 40 lowercase letters, digits and dashes.
        retry: how a broken upload is resumed.

    Source: ai.google.dev/gemini-api/docs/files and google-genai 3.4.0, `_upload_fd`, 2026-11.
    """

    def __init__(
        self,
        calls: ServiceCalls,
        version: str | None,
        path: Path,
        file_id: str,
        retry: RetryPolicy,
    ) -> None:
        if _FILE_ID.fullmatch(file_id) is None:
            raise ValueError(f"{file_id!r} is no id of a file at the service")
        self._calls, self._path, self._retries = calls, path, Retries(retry)
        self._start_url = calls.url(f"upload/{version or 'v1beta'}/files")
        self._name = f"files/{file_id}"
        self._size = path.stat().st_size
        self._mime_type = MIME_TYPES[0]
        self._session: _Session | None = None
        self._with_key = False

    def run(self) -> str:
        """Upload the file; return its name at the service.

        Raises:
            CallError: the service rejects it, or keeps failing.
        """
        for mime_type in MIME_TYPES:
            self._mime_type, self._session = mime_type, None
            try:
                return self._retries.run(self._attempt)
            except CallRejected as error:
                if not _is_about_type(error) or mime_type == MIME_TYPES[-1]:
                    raise
        raise AssertionError("the last type ends with a name or an error")

    def _attempt(self) -> str:
        """Continue the upload, or begin it; return the file's name at the service.

        The first failure ends the attempt.
        """
        offset = 0
        if self._session is None:
            self._session = self._start()
            if self._session is None:
                return self._name
        else:
            received = self._received(self._session)
            if received is None:
                return self._name
            offset = received
        while True:
            self._retries.reached(offset)
            name = self._send(self._session, offset)
            if name is not None:
                return name
            offset += self._session.piece_bytes

    def _start(self) -> _Session | None:
        """Start an upload; return None if the service has the file already."""
        headers = {
            "content-type": "application/json",
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(self._size),
            "x-goog-upload-header-content-type": self._mime_type,
        }
        file = {
            "name": self._name,
            "displayName": self._name.removeprefix("files/"),
            "mimeType": self._mime_type,
        }
        try:
            answer = self._calls.send(
                "POST",
                self._start_url,
                {**headers, **self._calls.key_header()},
                orjson.dumps({"file": file}),
            )
        except CallError as error:
            if error.http_status != _CONFLICT:
                raise
            if self._is_there():
                return None
            with contextlib.suppress(CallError):  # It is the next start that counts.
                self._calls.ask(lambda: self._calls.sdk.files.delete(name=self._name))
            raise
        url = answer.headers.get("x-goog-upload-url")
        if not url:
            raise BadAnswer("the answer to the start of an upload has no URL", code="upload")
        step = _number(answer, "x-goog-upload-chunk-granularity") or 1
        return _Session(self._calls.at_service(url), max(step, PIECE_BYTES // step * step))

    def _is_there(self) -> bool:
        """Return whether the service has this file, with the same size and content."""
        try:
            found = self._calls.ask(lambda: self._calls.sdk.files.get(name=self._name))
        except CallError as error:
            if error.http_status in _NO_FILE:
                return False
            raise
        if str(found.get("sizeBytes", 0)) != str(self._size) or found.get("state") == "FAILED":
            return False
        sent = found.get("sha256Hash")
        return not sent or sent in _hashes(self._path)

    def _send(self, session: _Session, offset: int) -> str | None:
        """Send the piece at an offset; after the last one, return the file's name."""
        piece = self._piece(offset, session.piece_bytes)
        is_last = offset + len(piece) >= self._size
        steps = ["upload"] * bool(piece) + ["finalize"] * is_last
        headers = {"x-goog-upload-command": ", ".join(steps), **_offset(offset)}
        try:
            answer = self._step(session, headers, piece)
        except CallError as error:
            if is_last and error.http_status == _CONFLICT:
                # A worker that is lost may have uploaded the file: the next start finds it.
                self._session = None
            raise
        status = answer.headers.get("x-goog-upload-status")
        if status != ("final" if is_last else "active"):
            raise BadAnswer(f"the status of the upload is {status!r}", code="upload")
        if not is_last:
            return None
        file = _file(answer)
        if str(file.get("sizeBytes", self._size)) != str(self._size):
            self._session = None
            raise BadAnswer(
                f"{file['sizeBytes']} of {self._size} bytes were uploaded", code="upload"
            )
        return str(file.get("name") or self._name)

    def _received(self, session: _Session) -> int | None:
        """Return how many bytes the service has; None if the upload is complete.

        If the service does not know the upload, or not the file that it made of it, the next
        attempt begins again.
        """
        try:
            answer = self._step(session, {"x-goog-upload-command": "query"}, b"")
        except CallError as error:
            if error.http_status in _LOST:
                self._session = None
            raise
        status = answer.headers.get("x-goog-upload-status")
        if status == "final" and self._is_there():
            return None
        received = _number(answer, "x-goog-upload-size-received")
        if status != "active" or received is None or received > self._size:
            self._session = None
            raise BadAnswer(f"the status of the upload is {status!r}", code="upload")
        return received

    def _step(self, session: _Session, headers: Mapping[str, str], content: bytes) -> WholeAnswer:
        """Send one step of an upload: without the key, unless the service asks for it.

        Raises:
            Unavailable: the step does not fit what the service knows of the upload.
            CallError: as other calls.
        """
        key = self._calls.key_header() if self._with_key else {}
        try:
            return self._calls.send("POST", session.url, {**headers, **key}, content)
        except CallError as error:
            may_help = error.http_status in (401, 403) and self._calls.may_see_key(session.url)
            if self._with_key or not may_help:
                if error.http_status not in _LOST or _is_about_type(error):
                    raise
                raise Unavailable(
                    error.message, http_status=error.http_status, code="upload",
                    service_message=error.service_message,
                ) from None  # fmt: skip
            self._with_key = True
            return self._step(session, headers, content)

    def _piece(self, offset: int, length: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(length)


def _is_about_type(error: CallError) -> bool:
    return "MIME type" in error.service_message


def _offset(offset: int) -> dict[str, str]:
    return {"x-goog-upload-offset": str(offset)}


def _file(answer: WholeAnswer) -> dict[str, Any]:
    """Return the file in the answer to a complete upload; empty if it names none."""
    found = load_object(answer.body).get("file") if answer.body.strip() else None
    return found if isinstance(found, dict) else {}


def _number(answer: WholeAnswer, header: str) -> int | None:
    value = answer.headers.get(header, "")
    return int(value) if value.isascii() and value.isdigit() else None


def _hashes(path: Path) -> tuple[str, str]:
    """Return the SHA-256 of a file as base64: of its bytes, and of its hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    forms = digest.digest(), digest.hexdigest().encode()
    return base64.b64encode(forms[0]).decode(), base64.b64encode(forms[1]).decode()
