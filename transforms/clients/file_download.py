"""Download a file to disk; a broken download is resumed where it stopped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO

import httpx2

from bulkembed.schemas.errors import BadAnswer, Unavailable
from bulkembed.transforms.clients.complete_files import written
from bulkembed.transforms.clients.retry_policy import Retries, RetryPolicy
from bulkembed.transforms.clients.service_calls import ServiceCalls
from bulkembed.transforms.clients.whole_answers import WholeAnswer

MAX_REDIRECTS = 3
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)", re.ASCII)


class FileDownload:
    """Downloads one URL to a file, which gets its name when it is complete.

    Args:
        calls: calls the service.
        url: where the file is.
        path: where it shall be.
        retry: how a broken download is resumed.
    """

    def __init__(self, calls: ServiceCalls, url: str, path: Path, retry: RetryPolicy) -> None:
        self._calls, self._url, self._path = calls, url, path
        self._retries = Retries(retry)

    def run(self) -> None:
        """Download the file.

        Raises:
            CallError: the service rejects it, or keeps failing.
            OutputError: the disk is full, or the file cannot be written.
        """
        with written(self._path) as part, part.open("wb") as file:
            self._retries.run(lambda: self._get(file))

    def _get(self, file: IO[bytes]) -> None:
        """Append the rest of the file, or write all of it if the service sends no part of it."""
        url, redirects = self._url, 0
        while True:
            # A compressed body could not be resumed.
            headers = {"accept-encoding": "identity"}
            if self._calls.may_see_key(url):
                headers |= self._calls.key_header()
            if file.tell():
                headers["range"] = f"bytes={file.tell()}-"
            with self._calls.opened("GET", url, headers) as response:
                location = response.headers.get("location")
                if response.is_redirect and location and redirects < MAX_REDIRECTS:
                    url, redirects = str(response.url.join(location)), redirects + 1
                    continue
                return self._save(response, file)

    def _save(self, response: httpx2.Response, file: IO[bytes]) -> None:
        found = _RANGE.fullmatch(response.headers.get("content-range", ""))
        total = int(found[2]) if found else None
        if response.status_code == 416 and total == file.tell():
            return
        if response.status_code not in (200, 206):
            _restart(file)
            body = b"".join(self._calls.pieces(response))
            self._calls.check(WholeAnswer(response.status_code, response.headers, body))
            raise BadAnswer(
                f"a download was answered with status {response.status_code}", code="download"
            )
        if response.status_code == 200 or found is None or int(found[1] or 0) != file.tell():
            is_part = response.status_code == 206
            _restart(file)
            if is_part:
                raise BadAnswer("another part of the file was sent", code="download")
            total = _length(response)
        is_first = file.tell() == 0
        for piece in self._calls.pieces(response):
            if is_first:
                self._calls.check(WholeAnswer(200, response.headers, piece))
                is_first = False
            file.write(piece)
            self._retries.reached(file.tell())
        if total is not None and file.tell() != total:
            received = file.tell()
            if received > total:
                _restart(file)
            raise Unavailable(
                f"the download ended after {received:,} of {total:,} bytes", code="connection"
            )


def _restart(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()


def _length(response: httpx2.Response) -> int | None:
    """Return the length of a body that is sent as it is; None if it is not known."""
    value = response.headers.get("content-length", "")
    is_plain = response.headers.get("content-encoding", "identity") == "identity"
    return int(value) if is_plain and value.isascii() and value.isdigit() else None
