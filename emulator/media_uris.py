"""The bytes of the files that a content names by URI."""

from __future__ import annotations

import urllib.parse

from bulkembed.emulator.api_errors import ApiError, invalid
from bulkembed.emulator.buckets import Buckets
from bulkembed.emulator.files import FileStore


class UriReader:
    """Reads `gs://` objects, and the files of the Files API."""

    def __init__(self, buckets: Buckets, files: FileStore, *, developer_gs: bool) -> None:
        self._buckets, self._files, self._developer_gs = buckets, files, developer_gs

    def read(self, uri: str, *, vertex: bool) -> tuple[bytes, str]:
        """Return the bytes of a file, and the type with which it was uploaded or "".

        Raises:
            ApiError: there is no such file, or the service does not read such URIs.
        """
        if uri.startswith("gs://") and (vertex or self._developer_gs):
            return self._buckets.read(uri), ""
        path = urllib.parse.urlsplit(uri).path
        if not vertex and "/files/" in f"/{path}":
            file = self._files.get(path.rpartition("/")[2])
            return b"".join(file.content.pieces(0, file.content.size)), file.mime_type
        raise unreadable_uri(uri)


def unreadable_uri(uri: str) -> ApiError:
    """Return the error for a URI that the service does not read."""
    return invalid(f"Cannot fetch content from the provided URL: {uri[:200]}")
