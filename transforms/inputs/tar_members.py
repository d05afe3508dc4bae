"""The members of a tar archive, read forward in bounded memory.

Python's tarfile ends silently at a damaged header, and remembers every member.
"""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Callable, Iterator

from bulkembed.transforms.inputs.stored_bytes import CHUNK_BYTES, Stream

_BLOCK_BYTES = 512
_MAX_EXTRA_BYTES = 1 << 20
"""More bytes of extended headers are damage."""
_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_EXTRA = (_LONG_NAME, _LONG_LINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


@dataclasses.dataclass(frozen=True, slots=True)
class TarMember:
    """A regular file in an archive."""

    name: str
    """Its path; bytes that are not UTF-8 are surrogates."""
    at: int
    """The byte where its first header begins."""
    size: int


class TarReader:
    """Reads the members of an archive, from one of them to the end.

    Args:
        stream: the archive, decompressed.
        at: the byte of the archive where the stream is, which is where a header begins.
        seek: moves the stream to a byte; None if it must be read.
    """

    def __init__(
        self, stream: Stream, *, at: int = 0, seek: Callable[[int], object] | None = None
    ) -> None:
        self._stream = stream
        self._at = at
        self._seek = seek
        self._next = at
        """Where the next header begins."""
        self._size = 0

    def __iter__(self) -> Iterator[TarMember]:
        """Yield the regular files in order; `data` reads the last one that was yielded.

        Archives may follow each other, as `cat` writes them.

        Raises:
            OSError: the archive is damaged, or has no end.
        """
        begin: int | None = None
        extra: dict[str, str] = {}
        has_ended = False
        while True:
            self._skip_to(self._next)
            at, block = self._at, self._take(_BLOCK_BYTES)
            if not block.strip(b"\0"):
                if not block and not has_ended:
                    raise OSError("the archive has no end")
                if not block:
                    return
                has_ended, self._next = True, at + len(block)
                continue
            header = _parsed(block, at)
            has_ended = False
            begin = at if begin is None else begin
            if header.type in _EXTRA:
                extra |= self._extra(header)
                continue
            size = int(extra["size"]) if extra.get("size", "").isdecimal() else header.size
            has_data = header.isreg() or header.type not in tarfile.SUPPORTED_TYPES
            self._size = size if has_data else 0
            self._next = self._at + _padded(self._size)
            if header.issparse() or any(name.startswith("GNU.sparse") for name in extra):
                raise OSError(f"the member at byte {at} is a sparse file, which is not supported")
            if header.isreg():
                yield TarMember(extra.get("path", header.name), begin, size)
            begin, extra = None, {}

    def data(self) -> bytes:
        """Return the bytes of the member that was yielded last; only once.

        Raises:
            OSError: the archive ends before it does.
        """
        data = self._take(self._size)
        if len(data) < self._size:
            raise OSError("the archive ends within a member")
        return data

    def _extra(self, header: tarfile.TarInfo) -> dict[str, str]:
        """Return what a header says about the member after it."""
        self._size = header.size
        self._next = self._at + _padded(header.size)
        if header.size > _MAX_EXTRA_BYTES:
            raise OSError(f"a header of {header.size:,} bytes")
        data = self.data()
        if header.type == _LONG_NAME:
            return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
        return _records(data) if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE) else {}

    def _skip_to(self, byte: int) -> None:
        if self._seek is not None and byte > self._at:
            self._seek(byte)
            self._at = byte
        while self._at < byte and self._take(min(CHUNK_BYTES, byte - self._at)):
            pass

    def _take(self, size: int) -> bytes:
        """Return the next bytes; fewer only at the end of the stream."""
        pieces, missing = [], size
        while missing and (piece := self._stream.read(missing)):
            pieces.append(piece)
            missing -= len(piece)
        self._at += size - missing
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _parsed(block: bytes, at: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise OSError(f"no header of a member at byte {at}: {error}") from None


def _padded(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def _records(data: bytes) -> dict[str, str]:
    """Return the records of a pax header, each of which is `LENGTH KEY=VALUE` and a line break."""
    found = {}
    while data.strip(b"\0"):
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or not len(length) + 1 < int(length) <= len(data):
            raise OSError("a damaged pax header")
        key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[int(length) :]
    return found
