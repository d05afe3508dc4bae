"""Moto's S3 in a process of its own, which counts requests, bytes, and how often parts are read.

    python -m benchmarks.counted_store

It prints its URL. A GET of `/_counts` returns the counts since the last one.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx2

from benchmarks.processes import ROOT

BUCKET = "bucket"
_COUNTS = "/_counts"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclasses.dataclass(frozen=True, slots=True)
class Requests:
    """The requests of one run."""

    kinds: Mapping[str, int]
    """GET, HEAD, PUT, DELETE, and LIST for one page of a listing."""
    lists: Mapping[str, int]
    """The pages of listings by the folder that was listed."""
    read_bytes: int
    """The bytes of all answers to GETs."""
    part_bytes: int
    """Those of parts with vectors."""
    vector_reads: int
    """How often the vectors of any one part were read, at most; a part here is one row group."""


class CountedStore:
    """The store, with one bucket. Use `counted_store`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx2.Client(trust_env=False, timeout=60)
        self._client.put(f"{url}/{BUCKET}").raise_for_status()
        self.take()

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to reach the store."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def take(self) -> Requests:
        """Return the requests since the last call."""
        return Requests(**self._client.get(f"{self.url}{_COUNTS}").json())

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@contextlib.contextmanager
def counted_store() -> Iterator[CountedStore]:
    """Run a store."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.counted_store"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        with contextlib.closing(CountedStore(process.stdout.readline().strip())) as store:
            yield store
    finally:
        process.terminate()
        process.wait()


class _Counting:
    """A WSGI application around another one that counts what it answers."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._kinds: collections.Counter[str] = collections.Counter()
        self._lists: collections.Counter[str] = collections.Counter()
        self._read_bytes = self._part_bytes = 0
        self._sizes: dict[str, int] = {}
        self._ranges: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == _COUNTS:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._take()).encode()]

        def started(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            self._note(environ, {name.lower(): value for name, value in headers})
            return start_response(status, headers, *more)

        found: Iterable[bytes] = self._app(environ, started)
        return found

    def _note(self, environ: dict[str, Any], answer: Mapping[str, str]) -> None:
        path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        kind = environ["REQUEST_METHOD"]
        if kind == "GET" and "list-type=" in query:
            kind = "LIST"
        elif kind == "POST":
            kind = "DELETE" if "delete" in query else "PUT"
        with self._lock:
            self._kinds[kind] += 1
            if kind == "LIST":
                prefix = re.search(r"prefix=([^&]*)", query)
                self._lists[prefix[1].replace("%2F", "/") if prefix else ""] += 1
            if kind == "GET":
                size = int(answer.get("content-length", 0))
                self._read_bytes += size
                if "/vectors/" in path:
                    self._part_bytes += size
                    self._note_range(path, environ.get("HTTP_RANGE", ""), answer, size)

    def _note_range(self, path: str, wanted: str, answer: Mapping[str, str], size: int) -> None:
        found = _RANGE.search(wanted)
        begin = int(found[1]) if found else 0
        whole = answer.get("content-range", "").rpartition("/")[2]
        self._sizes[path] = int(whole) if whole.isdigit() else size
        self._ranges[path].append((begin, begin + size))

    def _take(self) -> dict[str, Any]:
        with self._lock:
            found = Requests(
                dict(self._kinds), dict(self._lists), self._read_bytes, self._part_bytes,
                max(map(self._vector_reads, self._ranges), default=0),
            )  # fmt: skip
            self._reset()
        return dataclasses.asdict(found)

    def _vector_reads(self, path: str) -> int:
        """Return how often the middle of a part was read: vectors are almost all of it."""
        middle = self._sizes[path] // 2
        return sum(begin <= middle < end for begin, end in self._ranges[path])


def main() -> None:
    """Serve until the process is ended."""
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    app = _Counting(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
