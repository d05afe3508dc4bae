"""Long media is refused, or its head is sent, or all of its pieces."""

from __future__ import annotations

import dataclasses
import io
import itertools
import struct

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pypdf import PdfReader, PdfWriter
from pypdf.annotations import Link
from pypdf.generic import DecodedStreamObject, NameObject
from support.media_samples import chunk, id3, mp3, mp3_frame, mp4, pdf, wav, wav_format, xing

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFault, MediaKind, MediaLimits
from bulkembed.schemas.media_settings import LongMedia, MediaSettings
from bulkembed.transforms.media.mp3_files import read_mp3
from bulkembed.transforms.media.pieces import piece_spans
from bulkembed.transforms.media.prepare_media import prepare_media
from bulkembed.transforms.media.wav_files import read_wav

LIMITS = MediaLimits(audio_seconds=3, video_seconds=3, pages=3)
ROW = MediaSettings(limits=LIMITS)
HEAD = dataclasses.replace(ROW, long_media=LongMedia.HEAD)
PIECES = dataclasses.replace(
    ROW, long_media=LongMedia.PIECES, piece_overlap_seconds=0.5, piece_overlap_pages=1
)


@given(
    length=st.integers(1, 500),
    piece=st.integers(2, 50),
    overlap=st.integers(0, 25),
)
def test_pieces_cover_the_length_and_overlap(length: int, piece: int, overlap: int) -> None:
    overlap = min(overlap, piece // 2)
    spans = list(piece_spans(length, piece, overlap))
    assert (spans[0][0], spans[-1][1]) == (0, length)
    assert all(0 < end - start <= piece for start, end in spans)
    assert all(one[1] - two[0] == overlap for one, two in itertools.pairwise(spans))


@pytest.mark.parametrize(
    ("data", "kind", "code", "words"),
    [
        (wav(3.5), MediaKind.AUDIO, "too_long", "the audio lasts 3.5 s, but the model accepts at"),
        (mp3(3.6), MediaKind.AUDIO, "too_long", "the audio lasts 3.6 s"),
        (mp4(3.5), MediaKind.VIDEO, "too_long", "the video lasts 3.5 s"),
        (pdf(4), MediaKind.PDF, "too_many_pages", "the PDF file has 4 pages, but the model"),
    ],
    ids=["wav", "mp3", "mp4", "pdf"],
)
def test_long_media_is_a_dead_letter(data: bytes, kind: MediaKind, code: str, words: str) -> None:
    with pytest.raises(MediaFault, match=words) as caught:
        prepare_media(data, kind, ROW)
    assert caught.value.code == code
    assert "--long-media head or pieces" in str(caught.value)


@pytest.mark.parametrize("settings", [ROW, HEAD, PIECES], ids=["row", "head", "pieces"])
@pytest.mark.parametrize(
    ("data", "kind", "length", "tokens"),
    [
        (wav(3), MediaKind.AUDIO, (3, None), 75),
        (mp4(2.4), MediaKind.VIDEO, (2.4, None), 3 * 66),
        (pdf(3), MediaKind.PDF, (None, 3), 3 * 258),
    ],
    ids=["wav", "mp4", "pdf"],
)
def test_media_within_the_limits_passes_byte_for_byte(
    data: bytes,
    kind: MediaKind,
    length: tuple[float | None, int | None],
    tokens: int,
    settings: MediaSettings,
) -> None:
    (part,) = prepare_media(data, kind, settings)
    assert part.data is data
    assert ((part.seconds, part.pages), part.tokens) == (length, tokens)
    assert part.start is part.end is None


def samples_of(data: bytes) -> bytes:
    found = read_wav(data)
    return data[found.first : found.first + found.size]


def test_a_wav_file_is_cut_at_its_samples() -> None:
    data = wav(7)
    samples = samples_of(data)
    parts = prepare_media(data, MediaKind.AUDIO, PIECES)
    assert [(part.start, part.end, part.seconds, part.tokens) for part in parts] == [
        (0, 3, 3, 75), (2.5, 5.5, 3, 75), (5, 7, 2, 50),
    ]  # fmt: skip
    assert [samples_of(part.data) for part in parts] == [
        samples[:24_000], samples[20_000:44_000], samples[40_000:],
    ]  # fmt: skip
    assert all(int.from_bytes(part.data[4:8], "little") + 8 == len(part.data) for part in parts)


def test_a_piece_of_wav_holds_whole_blocks_and_its_format() -> None:
    head = wav_format(0xFFFE, channels=2, rate=10, bits=24)[8:]
    head += struct.pack("<HHIH14x", 22, 24, 3, 1)
    content = b"WAVE" + chunk(b"fmt ", head) + chunk(b"data", bytes(range(252)))
    (part,) = prepare_media(
        chunk(b"RIFF", content), MediaKind.AUDIO, dataclasses.replace(HEAD, piece_seconds=1.26)
    )
    assert samples_of(part.data) == bytes(range(13 * 6))
    assert part.data[20 : 20 + len(head)] == head


def test_a_compressed_wav_file_cannot_be_cut() -> None:
    content = b"WAVE" + wav_format(2, byte_rate=1000) + chunk(b"data", bytes(9000))
    with pytest.raises(MediaFault, match="compressed samples cannot be cut") as caught:
        prepare_media(chunk(b"RIFF", content), MediaKind.AUDIO, PIECES)
    assert caught.value.code is DeadCode.TOO_LONG


def test_an_mp3_file_is_cut_at_its_frames() -> None:
    frames = [mp3_frame(320 if index % 3 else 32, index) for index in range(1, 200)]  # 7.164 s
    data = id3(99) + xing(199) + b"".join(frames)
    parts = prepare_media(data, MediaKind.AUDIO, PIECES)
    assert [(part.start, part.end) for part in parts] == [
        (0, 3), (2.5, 5.5), (5, pytest.approx(7.164)),
    ]  # fmt: skip
    spans = [(0, 82), (70, 152), (139, 199)]  # Whole frames of 36 ms, and one for the table.
    for part, (first, end) in zip(parts, spans, strict=True):
        sound = b"".join(frames[first:end])
        assert part.data.endswith(sound)
        head = part.data.removesuffix(sound)
        assert head[21:25] == b"Xing"
        assert struct.unpack(">III", head[25:37]) == (3, end - first, len(part.data))
        assert read_mp3(part.data).seconds == pytest.approx(0.036 * (end - first))


@pytest.mark.parametrize(
    ("head", "size", "place"),
    [
        pytest.param(b"\xff\xfb\x10\x00", 104, 36, id="mpeg-1-stereo"),
        pytest.param(b"\xff\xf3\x10\xc0", 26, 13, id="mpeg-2-mono"),
        pytest.param(b"\xff\xf3\x10\x00", 26, 21, id="mpeg-2-stereo"),
    ],
)
def test_a_piece_of_mp3_counts_its_frames_where_readers_look(
    head: bytes, size: int, place: int
) -> None:
    data = head.ljust(size, b"\7") * 200
    (part,) = prepare_media(data, MediaKind.AUDIO, HEAD)
    assert part.data[place : place + 4] == b"Xing"
    frames = int.from_bytes(part.data[place + 8 : place + 12], "big")
    assert part.data.endswith(head.ljust(size, b"\7") * frames)
    assert read_mp3(part.data).seconds == pytest.approx(3, abs=0.06)


def widths(data: bytes) -> list[int]:
    return [int(page.mediabox.width) - 100 for page in PdfReader(io.BytesIO(data)).pages]


def test_a_pdf_file_is_cut_at_its_pages() -> None:
    parts = prepare_media(pdf(7), MediaKind.PDF, PIECES)
    assert [(part.start, part.end, part.pages, part.tokens) for part in parts] == [
        (0, 3, 3, 774), (2, 5, 3, 774), (4, 7, 3, 774),
    ]  # fmt: skip
    assert [widths(part.data) for part in parts] == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]


def test_a_piece_of_pdf_does_not_take_the_pages_along_that_it_links_to() -> None:
    writer = PdfWriter()
    for index in range(9):
        writer.add_blank_page(100 + index, 200)
    writer.add_annotation(0, Link(rect=(0, 0, 9, 9), target_page_index=8))
    target = io.BytesIO()
    writer.write(target)
    (part,) = prepare_media(target.getvalue(), MediaKind.PDF, HEAD)
    assert widths(part.data) == [0, 1, 2]
    assert part.data.count(b"/MediaBox") == 3


def test_the_head_of_an_encrypted_pdf_file_that_needs_no_password() -> None:
    data = pdf(4, user_password="", owner_password="owner", algorithm="AES-256")
    (part,) = prepare_media(data, MediaKind.PDF, HEAD)
    assert (part.start, part.end, widths(part.data)) == (0, 3, [0, 1, 2])


def test_a_head_may_be_shorter_than_the_limit() -> None:
    (part,) = prepare_media(wav(2.5), MediaKind.AUDIO, dataclasses.replace(HEAD, piece_seconds=1))
    assert (part.start, part.end, read_wav(part.data).seconds) == (0, 1, 1)


def test_pieces_may_be_shorter_than_the_limit() -> None:
    parts = prepare_media(pdf(3), MediaKind.PDF, dataclasses.replace(
        PIECES, piece_pages=1, piece_overlap_pages=0))  # fmt: skip
    assert [(part.start, part.end) for part in parts] == [(0, 1), (1, 2), (2, 3)]


def test_pieces_have_a_limit_together() -> None:
    """Each page of a file may show the same picture, which each piece then holds."""
    writer = PdfWriter()
    shared = DecodedStreamObject()
    shared.set_data(b"% " + b"x" * 4000)
    place = writer._add_object(shared)
    for _ in range(9):
        writer.add_blank_page(9, 9)[NameObject("/Contents")] = place
    target = io.BytesIO()
    writer.write(target)
    settings = dataclasses.replace(
        PIECES, piece_pages=1, piece_overlap_pages=0, max_source_bytes=8000
    )
    with pytest.raises(MediaFault, match="more than 16,000 bytes together") as caught:
        prepare_media(target.getvalue(), MediaKind.PDF, settings)
    assert caught.value.code is DeadCode.TOO_LARGE
