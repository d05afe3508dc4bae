"""Fetch media: the bytes of paths and URIs, several of them in flight while a caller uses one."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.media import MediaFault
from bulkembed.schemas.secrets import without_credentials
from bulkembed.transforms.calls.stopping import Stopping
from bulkembed.transforms.calls.threads import LoopThread
from bulkembed.transforms.inputs.filesystems import Location, scheme_of
from bulkembed.transforms.media.downloads import Downloads, HostLimits
from bulkembed.transforms.media.media_refs import MediaRef, is_web_address
from bulkembed.transforms.media.remote_files import RemoteFile, read_head, uri_of
from bulkembed.transforms.media.stored_media import located, read_stored, version_of

_IN_MEMORY_BYTES = 1 << 20
"""A fetched file that waits for its row is on disk if it is larger."""
_SHOWN_CHARS = 200
_SHOWN_ENDS = 50
"""Of a longer URI, this many characters of its start and of its end are shown."""
_CHECK_EVERY_S = 1.0

_File = concurrent.futures.Future[IO[bytes] | RemoteFile]


class MediaFetcher:
    """Fetches media of a process: from web servers, stores and local disks. Thread-safe.

    All threads share the limits, so that a process needs one fetcher. Close it at the end.

    Args:
        settings: time-outs and limits.
        must_stop: whether the run must end; called about once a second while media is fetched.

    Raises:
        JobRejected: the environment names certificates that cannot be read.
    """

    def __init__(
        self,
        settings: FetchSettings,
        must_stop: Callable[[], bool] = lambda: False,
        *,
        by_uri: bool = False,
    ) -> None:
        self._settings = settings
        self._by_uri = by_uri
        self._must_stop = must_stop
        self._checked_at = time.monotonic()
        self._threads = concurrent.futures.ThreadPoolExecutor(
            settings.concurrency, "bulkembed-fetch"
        )
        self._limits = HostLimits(settings)
        self._downloads = Downloads(settings, self._limits, self._threads)
        self._tasks: set[asyncio.Task[Any]] = set()
        """The downloads in flight; used by the loop only."""
        self._loop = LoopThread("bulkembed-fetch-loop")

    def fetch(self, ref: MediaRef) -> bytes:
        """Return the bytes of a reference.

        Raises:
            MediaFault: there are none; the message names the URI, without credentials.
            Stopping: the run must end.
        """
        found = self._found(ref, self._start(ref))
        if isinstance(found, RemoteFile):
            raise TypeError("a file that is sent by its URI has no bytes here")
        return found

    def fetch_ahead(self, refs: Iterable[MediaRef]) -> Iterator[bytes | RemoteFile | MediaFault]:
        """Yield the bytes of each reference, in order, or why there are none.

        With `by_uri`, of files in buckets of Google Cloud Storage only the first bytes are read.

        The next downloads are in flight while the caller uses what it got. A file that waits for
        the caller takes at most 1 MiB of memory; a larger one is on disk.

        Raises:
            Stopping: the run must end.
        """
        started: collections.deque[tuple[MediaRef, _File | None]] = collections.deque()
        try:
            for ref in refs:
                started.append((ref, self._start(ref)))
                if len(started) > self._settings.concurrency:
                    yield self._result(*started.popleft())
            while started:
                yield self._result(*started.popleft())
        finally:
            for _, future in started:
                if future is not None:
                    future.add_done_callback(_drop)

    def versions(self, refs: Sequence[MediaRef]) -> list[str | MediaFault]:
        """Return what identifies the present content of each file: its size and time.

        It is empty for a URL of a web server, and for bytes in the row: nothing is asked for them.
        A fault means that the store does not answer.

        Raises:
            Stopping: the run must end.
        """
        started = [self._threads.submit(_version_of, ref) for ref in refs]
        for future in started:
            self._wait_for(future)
        return [future.result() for future in started]

    def close(self) -> None:
        """Cancel what is in flight; a thread that waits for it gets CancelledError."""
        self._loop.run(self._end())
        self._loop.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _end(self) -> None:
        # Connections that are closed first would make their downloads try again.
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._downloads.close()

    def _start(self, ref: MediaRef) -> _File | None:
        if ref.uri is None:
            return None
        return self._loop.submit(self._fetched(ref.uri, ref.base))

    async def _fetched(self, uri: str, base: Location | None) -> IO[bytes] | RemoteFile:
        """Return a file with the bytes of a URI, or one that the service can read itself."""
        with self._running(), contextlib.ExitStack() as on_error:
            file = on_error.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES))
            if is_web_address(uri):
                await self._downloads.download(uri, file)
            else:
                location = located(uri, base)
                remote = await self._head(location) if self._by_uri else None
                if remote is not None:
                    return remote
                await self._read(location, file)
            on_error.pop_all()
            return file

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def _head(self, location: Location) -> RemoteFile | None:
        uri = uri_of(location)
        if uri is None:
            return None
        loop = asyncio.get_running_loop()
        async with self._limits.host(location.store) as host, host.slot():
            return await loop.run_in_executor(self._threads, read_head, uri, location)

    async def _read(self, location: Location, into: IO[bytes]) -> None:
        loop, most = asyncio.get_running_loop(), self._settings.max_bytes
        async with self._limits.host(location.store) as host, host.slot():
            await loop.run_in_executor(self._threads, read_stored, location, into, most)

    def _result(self, ref: MediaRef, future: _File | None) -> bytes | RemoteFile | MediaFault:
        try:
            return self._found(ref, future)
        except MediaFault as fault:
            return fault

    def _found(self, ref: MediaRef, future: _File | None) -> bytes | RemoteFile:
        if future is None:
            return ref.data or b""
        try:
            self._wait_for(future)
            file = future.result()
        except MediaFault as fault:
            raise _with_place(ref, fault) from None
        except Stopping:
            future.add_done_callback(_drop)
            raise
        if isinstance(file, RemoteFile):
            return file
        with file:
            file.seek(0)
            return file.read()

    def _wait_for(self, future: concurrent.futures.Future[Any]) -> None:
        while True:
            now = time.monotonic()
            if now - self._checked_at >= _CHECK_EVERY_S:
                self._checked_at = now
                if self._must_stop():
                    raise Stopping
            if concurrent.futures.wait([future], _CHECK_EVERY_S).done:
                return


def _version_of(ref: MediaRef) -> str | MediaFault:
    if ref.uri is None or is_web_address(ref.uri):
        return ""
    try:
        location = located(ref.uri, ref.base)
    except MediaFault:
        return ""  # It names no file that may be read.
    try:
        return version_of(location)
    except MediaFault as fault:
        return _with_place(ref, fault)


def _with_place(ref: MediaRef, fault: MediaFault) -> MediaFault:
    return MediaFault(fault.code, f"{_shown(ref.uri or '')}: {fault.what}")


def _shown(uri: str) -> str:
    """Return a path or URI for a message; a path may have @ and ? in it."""
    shown = uri if scheme_of(uri) is None else without_credentials(uri)
    if len(shown) > _SHOWN_CHARS:
        shown = f"{shown[:_SHOWN_ENDS]}...{shown[-_SHOWN_ENDS:]}"
    return "".join(map(_printable, shown))


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def _drop(future: _File) -> None:
    """Close the file of a download that nobody waits for any more."""
    if not future.cancelled() and future.exception() is None:
        file = future.result()
        if not isinstance(file, RemoteFile):
            file.close()
