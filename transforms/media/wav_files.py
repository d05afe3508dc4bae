"""WAV files: their length, and pieces of them.

A RIFF file is a list of chunks: 4 bytes of name, 4 of size, and an odd size is padded. RF64 files
keep the size of their data in the chunk `ds64`. Source: EBU Tech 3306; Microsoft's mmreg.h.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFault

_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_PLAIN = (_PCM, _FLOAT, _A_LAW, _MU_LAW)
"""Encodings in which each block is one sample of all channels, so that a file can be cut."""
_OPEN_ENDED = (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Sizes of `data` from programs that did not know the size: the data ends with the file."""


@dataclasses.dataclass(frozen=True, slots=True)
class WavFile:
    """Where the samples of a WAV file are."""

    format_chunk: bytes = dataclasses.field(repr=False)
    first: int
    """Where the samples begin in the file."""
    size: int
    """The bytes of the samples."""
    byte_rate: float
    """Bytes per second."""
    block_bytes: int
    can_be_cut: bool

    @property
    def seconds(self) -> float:
        """The length."""
        return self.size / self.byte_rate

    def piece(self, data: bytes, start_s: float, end_s: float) -> bytes:
        """Return the samples from one second to another as a WAV file of their own."""
        first, last = (
            min(round(at * self.byte_rate / self.block_bytes) * self.block_bytes, self.size)
            for at in (start_s, end_s)
        )
        samples = data[self.first + first : self.first + last]
        chunks = _chunk(b"fmt ", self.format_chunk) + _chunk(b"data", samples)
        return _chunk(b"RIFF", b"WAVE" + chunks)


def read_wav(data: bytes) -> WavFile:
    """Read the chunks of a WAV file.

    Raises:
        MediaFault: the file is cut off, or has no format or no samples.
    """
    format_chunk, long_size, frames = b"", 0, 0
    for name, first, size in _chunks(data):
        if name == b"fmt ":
            format_chunk = data[first : first + size]
        elif name == b"ds64" and size >= 16:
            long_size = int.from_bytes(data[first + 8 : first + 16], "little")
        elif name == b"fact":
            frames = int.from_bytes(data[first : first + 4], "little")
        elif name == b"data":
            return _with_samples(data, format_chunk, first, size, long_size, frames)
    raise _fault("has no samples (no chunk `data`)")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, the place of the content and the declared size of each chunk."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8, size
        at += 8 + size + size % 2


def _with_samples(
    data: bytes, format_chunk: bytes, first: int, size: int, long_size: int, frames: int
) -> WavFile:
    if len(format_chunk) < 16:
        raise _fault("has no format (no chunk `fmt `) before its samples")
    encoding, channels, rate, byte_rate, block_bytes = struct.unpack("<HHIIH", format_chunk[:14])
    if encoding == _EXTENSIBLE and len(format_chunk) >= 26:
        encoding = int.from_bytes(format_chunk[24:26], "little")
    if encoding in _PLAIN:
        byte_rate = rate * block_bytes
    elif not byte_rate and frames:
        byte_rate = size * rate / frames
    if not (channels and rate and byte_rate and block_bytes):
        raise _fault("declares a format without channels, sample rate or block size")
    present = len(data) - first
    if size == 0xFFFFFFFF and long_size:
        size = long_size
    elif size in _OPEN_ENDED:
        size = present
    if size > present:
        raise _fault(f"is cut off: {size:,} bytes of samples are declared, {present:,} are there")
    if size < block_bytes:
        raise _fault("has no samples")
    return WavFile(format_chunk, first, size, byte_rate, block_bytes, encoding in _PLAIN)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _fault(what: str) -> MediaFault:
    return MediaFault(DeadCode.CORRUPT_MEDIA, f"the WAV file {what}")
