"""The Files API over HTTP: resumable uploads, get, list, delete, and downloads with ranges."""

from __future__ import annotations

import re
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bulkembed.emulator import wire
from bulkembed.emulator.api_errors import ApiError, invalid, unregistered
from bulkembed.emulator.batch_calls import BatchCalls
from bulkembed.emulator.batch_settings import CallFault, CallKind
from bulkembed.emulator.files import FileStore, StoredFile, Upload, page
from bulkembed.emulator.gateway import Gateway, NoAnswer, parse
from bulkembed.emulator.settings import EmulatorSettings, Fault

_FILE = frozenset({
    "name", "displayName", "mimeType", "sizeBytes", "createTime", "updateTime", "expirationTime",
    "sha256Hash", "uri", "state", "source", "error", "videoMetadata", "downloadUri",
})  # fmt: skip
_UPLOAD_QUERY = frozenset({"upload_id", "upload_protocol"})
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_DEFAULT_PAGE, _LARGEST_PAGE = 10, 100
_LONGEST_ID = 40
_HALF = {CallFault.CUT: Fault.RESET, CallFault.STALL: Fault.HANG}
"""What follows half of a transfer."""


class FileRoutes:
    """The handlers of files."""

    def __init__(
        self, settings: EmulatorSettings, gateway: Gateway, calls: BatchCalls, files: FileStore
    ) -> None:
        self._settings, self._gateway = settings, gateway
        self._calls, self._files = calls, files

    def routes(self) -> list[Route]:
        """Return the routes."""
        start = self._calls.handler(CallKind.START, self.start)
        upload = self._calls.handler(CallKind.UPLOAD, self.upload)
        download = self._calls.handler(CallKind.DOWNLOAD, self.download)

        async def post(request: Request) -> Response:
            return await (upload if "upload_id" in request.query_params else start)(request)

        return [
            Route("/upload/{version}/files", post, methods=["POST"]),
            Route("/download/{version}/files/{file}:download", download),
            Route("/{version}/files/{file}:download", download),
            Route("/{version}/files", self._calls.handler(CallKind.LIST_FILES, self.list)),
            Route(
                "/{version}/files/{file}",
                self._calls.handler(CallKind.GET_FILE, self.get),
                methods=["GET"],
            ),
            Route(
                "/{version}/files/{file}",
                self._calls.handler(CallKind.DELETE_FILE, self.delete),
                methods=["DELETE"],
            ),
        ]

    async def start(self, request: Request) -> Response:
        """Begin an upload; the answer's header has the URL of the further steps."""
        self._gateway.check_access(request, _UPLOAD_QUERY)
        headers = request.headers
        if headers.get("x-goog-upload-protocol") != "resumable":
            raise invalid("The emulator accepts X-Goog-Upload-Protocol: resumable only.")
        if headers.get("x-goog-upload-command") != "start":
            raise invalid("The first X-Goog-Upload-Command of an upload must be start.")
        body = parse(await self._gateway.read(request, self._settings.max_body_bytes))
        message = wire.Message(body, "", frozenset({"file"}))
        file = wire.Message(message.get("file") or {}, "file", _FILE)
        mime = headers.get("x-goog-upload-header-content-type") or file.text("mimeType")
        if not mime:
            raise invalid("* CreateFileRequest.file.mime_type: mime_type must be specified\n")
        size = _number(headers.get("x-goog-upload-header-content-length"), "Header-Content-Length")
        name = file.text("name")
        if name is not None and not name.startswith("files/"):
            raise invalid("* CreateFileRequest.file.name: it must begin with files/\n")
        upload = self._files.start(
            name and name.removeprefix("files/"), file.text("displayName"), mime, size
        )
        url = request.url.include_query_params(upload_id=upload, upload_protocol="resumable")
        return Response(
            headers={
                "x-goog-upload-url": str(url.remove_query_params("key")),
                "x-goog-upload-status": "active",
                "x-goog-upload-chunk-granularity": str(self._settings.batch.upload_granularity),
            }
        )

    async def upload(self, request: Request) -> Response:
        """Take a piece of an upload, finish it, cancel it, or say how much has arrived."""
        if self._settings.batch.upload_needs_key and not (
            request.headers.get("x-goog-api-key") or request.query_params.get("key")
        ):
            raise unregistered()
        id = request.query_params["upload_id"]
        upload = self._files.uploads.get(id)
        if upload is None:
            raise ApiError(404, "Upload has already been terminated, or was never started.")
        command = request.headers.get("x-goog-upload-command", "")
        steps = {step.strip() for step in command.split(",")}
        if steps == {"query"}:
            return self._status(request, upload, with_file=False)
        if steps == {"cancel"}:
            del self._files.uploads[id]
            upload.path.unlink(missing_ok=True)
            return Response(headers={"x-goog-upload-status": "cancelled"})
        if not steps or not steps <= {"upload", "finalize"}:
            raise invalid(f'X-Goog-Upload-Command: unknown command "{command}"')
        if upload.file is not None:
            raise invalid("Upload has already been finalized.")
        if "upload" in steps:
            await self._receive(request, upload, last="finalize" in steps)
            if request.state.fault in _HALF:
                return NoAnswer(_HALF[request.state.fault])
        if "finalize" in steps:
            if upload.received != upload.size:
                raise invalid(
                    f"The upload has {upload.received} bytes; its start declared {upload.size}."
                )
            types = self._settings.batch.mime_types
            if types and upload.mime_type not in types.split(","):
                raise invalid(f"Unsupported MIME type: {upload.mime_type}")
            self._files.finish(upload)
        return self._status(request, upload, with_file=True)

    async def _receive(self, request: Request, upload: Upload, *, last: bool) -> None:
        offset = _number(request.headers.get("x-goog-upload-offset"), "Offset")
        if upload.busy:
            raise ApiError(409, "Another request of this upload is in progress.")
        if offset != upload.received:
            raise invalid(f"The offset is {offset}, but {upload.received} bytes were received.")
        length = _number(request.headers.get("content-length"), "Content-Length")
        if offset + length > upload.size:
            raise invalid(f"The upload exceeds the declared size of {upload.size} bytes.")
        granularity = self._settings.batch.upload_granularity
        if not last and length % granularity:
            raise invalid(f"Each piece but the last must be a multiple of {granularity} bytes.")
        limit = length // 2 if request.state.fault in _HALF else length
        upload.busy = True
        try:
            async for piece in request.stream():
                upload.append(piece[:limit])
                limit -= min(limit, len(piece))
        finally:
            upload.busy = False

    def _status(self, request: Request, upload: Upload, *, with_file: bool) -> Response:
        headers = {
            "x-goog-upload-status": "active" if upload.file is None else "final",
            "x-goog-upload-size-received": str(upload.received),
        }
        shown = upload.file is not None and (
            with_file or self._settings.batch.final_query_names_file
        )
        if not shown:
            return Response(headers=headers)
        assert upload.file is not None
        response = self._gateway.json(request, {"file": upload.file.as_json(_base(request))})
        response.headers.update(headers)
        return response

    async def get(self, request: Request) -> Response:
        """Handle `files.get`."""
        return self._gateway.json(request, self._file(request).as_json(_base(request)))

    async def list(self, request: Request) -> Response:
        """Handle `files.list`: the newest first."""
        self._gateway.check_access(request)
        query = request.query_params
        files, following = page(
            list(self._files.files().values()),
            query.get("pageSize") or query.get("page_size"),
            query.get("pageToken") or query.get("page_token"),
            _DEFAULT_PAGE, _LARGEST_PAGE,
        )  # fmt: skip
        body: dict[str, object] = {}
        if files:
            body["files"] = [file.as_json(_base(request)) for file in files]
        if following:
            body["nextPageToken"] = following
        return self._gateway.json(request, body)

    async def delete(self, request: Request) -> Response:
        """Handle `files.delete`."""
        id = self._file(request).id
        if len(id) > _LONGEST_ID and not self._settings.batch.delete_results:
            raise invalid(
                "* DeleteFileRequest.name: File ID (name excluding 'files/') cannot be more than "
                f"{_LONGEST_ID} characters.\n"
            )
        self._files.delete(id)
        return self._gateway.json(request, {})

    async def download(self, request: Request) -> Response:
        """Send the bytes of a generated file, or a range of them."""
        file = self._file(request)
        if "media" not in (request.query_params.get("alt"), request.query_params.get("$alt")):
            raise invalid("The emulator needs alt=media for a download.")
        if not file.generated:
            raise invalid("Only generated files can be downloaded.")
        size = file.content.size
        header = request.headers.get("range") if self._settings.batch.download_ranges else None
        start, end, status = 0, size, 200
        headers = {"accept-ranges": "bytes"} if self._settings.batch.download_ranges else {}
        if header is not None and (found := _RANGE.fullmatch(header)) and found[0] != "bytes=-":
            start, end = _bounds(found[1], found[2], size)
            if start >= end:
                return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
            status = 206
            headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
        headers["content-length"] = str(end - start)
        fault = _HALF.get(request.state.fault)
        pieces = file.content.pieces(start, start + (end - start) // 2 if fault else end)
        return _Download(pieces, status, headers, file.mime_type, fault)

    def _file(self, request: Request) -> StoredFile:
        self._gateway.check_access(request)
        return self._files.get(request.path_params["file"])


class _Download(StreamingResponse):
    """The bytes of a file; after half of them, the connection stalls or is reset by a fault."""

    def __init__(
        self,
        pieces: Iterator[bytes],
        status: int,
        headers: dict[str, str],
        mime: str,
        fault: Fault | None,
    ) -> None:
        super().__init__(pieces, status, headers, media_type=mime)
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the bytes."""
        if self._fault is None:
            await super().__call__(scope, receive, send)
            return
        await send({
            "type": "http.response.start", "status": self.status_code, "headers": self.raw_headers,
        })  # fmt: skip
        async for piece in self.body_iterator:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await NoAnswer(self._fault)(scope, receive, send)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)


def _number(value: str | None, name: str) -> int:
    if value is None or not value.isdecimal():
        raise invalid(f"X-Goog-Upload-{name}: a number of bytes is required.")
    return int(value)


def _base(request: Request) -> str:
    version = request.path_params["version"]
    return f"{request.url.scheme}://{request.url.netloc}/{version}"
