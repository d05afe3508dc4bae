"""Files that Vertex AI reads itself, by their `gs://` URI: only their first bytes are read here."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

from bulkembed.schemas.errors import BulkEmbedError
from bulkembed.schemas.media import GEMINI_EMBEDDING_2_VERTEX, MediaFault
from bulkembed.transforms.inputs.filesystems import Location, open_input
from bulkembed.transforms.media.media_types import true_type
from bulkembed.transforms.media.stored_media import unreadable

HEAD_BYTES = 4096
"""As many bytes decide the type of a file."""


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in a bucket, of a type that the service takes."""

    uri: str
    version: str
    """The number that the store gave to this content of the file, and its size.

    Source: docs.cloud.google.com/storage/docs/metadata (generation), 2026-11.
    """
    size: int
    head: bytes = dataclasses.field(repr=False)
    """Its first bytes."""

    @property
    def identity(self) -> bytes:
        """What the hash of a content has in place of its bytes."""
        return f"bulkembed: media of {self.uri}\n{self.version}".encode("utf-8", "surrogatepass")


def uri_of(location: Location) -> str | None:
    """Return the `gs://` URI by which the service finds a file; None if it is not in a bucket."""
    bucket = location.path.partition("/")[0]
    return f"gs://{location.path}" if location.store == f"gs://{bucket}/" else None


def read_head(uri: str, location: Location) -> RemoteFile | None:
    """Return a file that can be sent by its URI; None if its type must be read and transcoded.

    Raises:
        MediaFault: there is no file, or it cannot be read.
    """
    try:
        stream = open_input(location.store).open_input_stream(location.path, compression=None)
        with stream:
            facts = stream.metadata()
            head = bytes(stream.read(HEAD_BYTES))
    except (OSError, pa.ArrowException, BulkEmbedError, ValueError) as error:
        if isinstance(error, MediaFault):
            raise
        raise unreadable(error, location) from None
    if true_type(head) not in GEMINI_EMBEDDING_2_VERTEX.types:
        return None
    size = int(facts.get("size", b"0"))
    generation = facts.get("generation", b"0").decode()
    return RemoteFile(uri, f"{generation} {size}", size, head)
