"""Lengths of audio and video come from headers and frames, however they are written."""

from __future__ import annotations

import struct

import pytest
from support.media_samples import (
    FTYP,
    FTYP_MOV,
    MDAT,
    box,
    chunk,
    id3,
    mp3,
    mp3_frame,
    mp4,
    mp4_head,
    mp4_track,
    wav,
    wav_format,
    xing,
)
from support.recordings import movie

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFault
from bulkembed.transforms.media.mp3_files import read_mp3
from bulkembed.transforms.media.mp4_files import mp4_seconds
from bulkembed.transforms.media.wav_files import read_wav

LIST = chunk(b"LIST", b"odd")  # An odd size, so that a byte of padding follows.
SAMPLES = chunk(b"data", bytes(16_000))
UNRATED = chunk(b"fmt ", struct.pack("<HHIIHH", 0x55, 1, 8000, 0, 1, 0))
DS64 = chunk(b"ds64", struct.pack("<QQQI", 0, 16_000, 0, 0))


def riff(*chunks: bytes, name: bytes = b"RIFF") -> bytes:
    return chunk(name, b"WAVE" + b"".join(chunks))


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        pytest.param(wav(2), 2, id="plain"),
        pytest.param(wav(2, LIST, LIST), 2, id="odd-chunks-before"),
        pytest.param(wav(2) + LIST, 2, id="chunk-after"),
        pytest.param(wav(2, size=0xFFFFFFFF), 2, id="written-to-a-pipe"),
        pytest.param(wav(2, size=0), 2, id="size-never-filled-in"),
        pytest.param(
            riff(DS64, wav_format(), chunk(b"data", bytes(16_003), 0xFFFFFFFF), name=b"RF64"),
            2, id="rf64",
        ),
        pytest.param(riff(wav_format(channels=2, bits=16), SAMPLES), 0.5, id="stereo-16-bit"),
        pytest.param(riff(wav_format(byte_rate=1), SAMPLES), 2, id="wrong-byte-rate-of-pcm"),
        pytest.param(riff(wav_format(2, byte_rate=4000), SAMPLES), 4, id="adpcm"),
        pytest.param(
            riff(UNRATED, chunk(b"fact", struct.pack("<I", 40_000)), SAMPLES), 5,
            id="compressed-with-a-count-of-samples",
        ),
        pytest.param(
            riff(chunk(b"fmt ", struct.pack("<HHIIHHHHIH14x", 0xFFFE, 1, 8000, 1, 1, 8, 22, 8, 4,
                                            1)), SAMPLES),
            2, id="extensible",
        ),
    ],
)  # fmt: skip
def test_the_length_of_wav(data: bytes, seconds: float) -> None:
    assert read_wav(data).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(wav(2)[:-1], "cut off: 16,000 bytes", id="cut-off"),
        pytest.param(wav(2)[:40], "no samples", id="cut-off-in-its-header"),
        pytest.param(wav(0, size=0), "no samples", id="no-samples"),
        pytest.param(riff(SAMPLES), "no format", id="no-format"),
        pytest.param(riff(wav_format(channels=0), SAMPLES), "without channels", id="no-channels"),
        pytest.param(riff(UNRATED, SAMPLES), "without channels", id="no-byte-rate"),
        pytest.param(riff(wav_format(rate=0), SAMPLES), "without channels", id="no-rate"),
    ],
)
def test_bad_wav(data: bytes, words: str) -> None:
    with pytest.raises(MediaFault, match=words) as caught:
        read_wav(data)
    assert caught.value.code is DeadCode.CORRUPT_MEDIA


def lame(before: int, behind: int, encoder: bytes = b"LAME3.100") -> bytes:
    """Return a first frame that says how many samples of silence the encoder added."""
    table = b"Info" + struct.pack(">III", 15, 100, 0) + bytes(104) + encoder + bytes(12)
    added = (before << 12 | behind).to_bytes(3, "big")
    return mp3_frame(64, head=bytes(17) + table + added)


VBR = b"".join(mp3_frame(kbits) for kbits in (32, 320, 64, 128)) * 25  # 3.6 s


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        pytest.param(mp3(3.6), 3.6, id="constant"),
        pytest.param(VBR, 3.6, id="variable-without-table"),
        pytest.param(xing(100) + VBR, 3.6, id="variable-with-table"),
        pytest.param(xing(100, b"Info") + mp3(3.6), 3.6, id="constant-with-table"),
        pytest.param(lame(576, 1024) + mp3(3.6), 3.55, id="silence-added-by-the-encoder"),
        pytest.param(lame(576, 1024, b"unknown 1") + mp3(3.6), 3.6, id="another-encoder"),
        pytest.param(id3(300) + mp3(3.6), 3.6, id="id3v2"),
        pytest.param(id3(30) + id3(40) + mp3(3.6), 3.6, id="two-tags"),
        pytest.param(mp3(3.6) + b"TAG" + bytes(125), 3.6, id="id3v1"),
        pytest.param(id3(7) + bytes(1000) + mp3(3.6), 3.6, id="zeros-before"),
        pytest.param(mp3(1.8) + b"\xff\xff garbage" * 9 + mp3(1.8), 3.6, id="garbage-between"),
        pytest.param(mp3(3.6)[:-5], 3.564, id="last-frame-cut-off"),
        pytest.param(b"\xff\xf3\x48\xc0" + bytes(140), 0.036, id="mpeg-2-16-khz"),
    ],
)
def test_the_length_of_mp3(data: bytes, seconds: float) -> None:
    assert read_mp3(data).seconds == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(id3(30) + b"no frames", "no frames", id="no-frames"),
        pytest.param(id3(30)[:20], "no frames", id="cut-off-in-its-tag"),
        pytest.param(xing(100) + mp3(3.6)[:-2000], "counts 100 frames, 86 are", id="cut-off"),
        pytest.param(xing(5), "no frames", id="only-a-table"),
        pytest.param(mp3(0.36) + b"\xff" * 70_000, "too many bytes", id="garbage"),
    ],
)
def test_bad_mp3(data: bytes, words: str) -> None:
    with pytest.raises(MediaFault, match=words) as caught:
        read_mp3(data)
    assert caught.value.code is DeadCode.CORRUPT_MEDIA


def track_extends(duration: int, number: int = 1) -> bytes:
    return box(b"trex", struct.pack(">IIIIII", 0, number, 1, duration, 0, 0))


def fragment(run: bytes, *, number: int = 1, flags: int = 0, fields: bytes = b"") -> bytes:
    head = box(b"tfhd", struct.pack(">II", flags, number), fields)
    return box(b"moof", box(b"traf", head, run)) + MDAT


def run_of(samples: int, *durations: int) -> bytes:
    """Return samples with durations and sizes of their own, or none."""
    fields = b"".join(struct.pack(">II", duration, 9) for duration in durations)
    return box(b"trun", struct.pack(">II", 0x0300 if durations else 0, samples), fields)


OPEN_HEAD = mp4_head(0, mp4_track(), box(b"mvex", track_extends(40)))
LONG_HEAD = box(
    b"moov",
    box(b"mvhd", struct.pack(">IQQIQ", 1 << 24, 0, 0, 1000, 5_000_000_000), bytes(80)),
    mp4_track(),
)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        pytest.param(mp4(7.5), 7.5, id="header-first"),
        pytest.param(FTYP + MDAT + mp4_head(7.5), 7.5, id="header-last"),
        pytest.param(FTYP_MOV + box(b"wide") + MDAT + mp4_head(7.5), 7.5, id="mov"),
        pytest.param(box(b"mdat", bytes(9)) + mp4_head(7.5), 7.5, id="mov-without-ftyp"),
        pytest.param(
            FTYP + struct.pack(">I4sQ", 1, b"mdat", 516) + bytes(500) + mp4_head(7.5), 7.5,
            id="64-bit-size",
        ),
        pytest.param(
            FTYP + struct.pack(">I4sQ", 1, b"moov", 8 + len(mp4_head(7.5))) + mp4_head(7.5)[8:],
            7.5, id="64-bit-size-of-the-header",
        ),
        pytest.param(FTYP + mp4_head(7.5) + box(b"mdat", bytes(9), size=0), 7.5, id="open-end"),
        pytest.param(mp4(7.5) + b"\0" * 99, 7.5, id="zeros-after"),
        pytest.param(movie(7.5), 7.5, id="tracks-without-heads"),
        pytest.param(FTYP + LONG_HEAD, 5_000_000, id="version-1"),
        pytest.param(
            FTYP + OPEN_HEAD + fragment(run_of(25)) + fragment(run_of(50)), 3,
            id="fragments-with-durations-of-the-track",
        ),
        pytest.param(
            FTYP + OPEN_HEAD
            + fragment(run_of(25), flags=0x09, fields=struct.pack(">QI", 0, 80)), 2,
            id="fragments-with-durations-of-their-own",
        ),
        pytest.param(
            FTYP + OPEN_HEAD + fragment(run_of(3, 100, 200, 1200)), 1.5,
            id="fragments-with-durations-of-samples",
        ),
        pytest.param(
            FTYP + OPEN_HEAD + fragment(run_of(25)) + fragment(run_of(9999), number=2), 1,
            id="fragments-of-another-track",
        ),
        pytest.param(
            FTYP + mp4_head(0, mp4_track(),
                            box(b"mvex", box(b"mehd", struct.pack(">II", 0, 7500)))), 7.5,
            id="fragments-with-a-total",
        ),
    ],
)  # fmt: skip
def test_the_length_of_video(data: bytes, seconds: float) -> None:
    assert mp4_seconds(data) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        pytest.param(mp4(3)[:-1], "corrupt_media", "cut off", id="cut-off"),
        pytest.param(FTYP + MDAT, "corrupt_media", "no header", id="no-header"),
        pytest.param(FTYP + OPEN_HEAD, "corrupt_media", "its length", id="no-fragments"),
        pytest.param(FTYP + mp4_head(0), "corrupt_media", "its length", id="no-length"),
        pytest.param(FTYP + box(b"free") * 100_001, "corrupt_media", "boxes", id="many-boxes"),
        pytest.param(
            FTYP + mp4_head(3, mp4_track(b"soun")), "unsupported_type", "without a video track",
            id="only-sound",
        ),
        pytest.param(
            FTYP_MOV + box(b"moov", box(b"cmov", bytes(9))), "unsupported_type", "compressed",
            id="compressed-header",
        ),
    ],
)  # fmt: skip
def test_bad_video(data: bytes, code: str, words: str) -> None:
    with pytest.raises(MediaFault, match=words) as caught:
        mp4_seconds(data)
    assert caught.value.code == code
