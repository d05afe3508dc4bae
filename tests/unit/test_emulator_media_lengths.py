"""What the emulator reads from the headers of media."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.drawings import drawing
from support.media_samples import id3, mp3, picture, saved, wav
from support.recordings import movie, printed

from bulkembed.emulator.image_descriptors import UnreadableImage, describe
from bulkembed.emulator.media_lengths import (
    Movie,
    UnreadableMedia,
    read_movie,
    read_pdf,
    sound_seconds,
    true_type,
)


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (saved(picture(), "PNG"), "image/png"),
        (saved(picture(), "JPEG"), "image/jpeg"),
        (saved(picture(), "GIF"), "image/gif"),
        (saved(picture(), "WEBP"), "image/webp"),
        (saved(picture(), "TIFF"), "image/tiff"),
        (wav(0.1), "audio/wav"),
        (mp3(0.2), "audio/mpeg"),
        (id3(9) + mp3(0.2), "audio/mpeg"),
        (movie(1), "video/mp4"),
        (movie(1, brand=b"qt  "), "video/quicktime"),
        (movie(1)[16 + 4 :], "video/quicktime"),
        (printed("a"), "application/pdf"),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_the_type_is_read_from_the_first_bytes(data: bytes, mime: str) -> None:
    assert true_type(data) == mime


@pytest.mark.parametrize("seconds", [0.5, 3, 180])
def test_the_length_of_a_wav_file_is_read(seconds: float) -> None:
    assert sound_seconds(wav(seconds)) == pytest.approx(seconds, abs=1e-3)


def test_a_wav_file_from_a_pipe_does_not_know_its_size() -> None:
    data = bytearray(wav(2))
    data[40:44] = b"\xff\xff\xff\xff"
    assert sound_seconds(bytes(data)) == pytest.approx(2)


@pytest.mark.parametrize("before", [b"", id3(300), b"\0" * 99], ids=["none", "tag", "padding"])
@pytest.mark.parametrize("after", [b"", b"TAG".ljust(128, b"\0")], ids=["none", "tag"])
def test_the_frames_of_an_mp3_file_are_counted(before: bytes, after: bytes) -> None:
    assert sound_seconds(before + mp3(3.6) + after) == pytest.approx(3.6)


@pytest.mark.parametrize("brand", [b"isom", b"qt  "])
@pytest.mark.parametrize("sound", [False, True])
def test_the_length_and_the_tracks_of_a_video_are_read(brand: bytes, sound: bool) -> None:
    assert read_movie(movie(12.5, sound=sound, brand=brand)) == Movie(12.5, sound)


def test_a_video_in_fragments_has_its_length_elsewhere() -> None:
    data = movie(0)
    mehd = struct.pack(">I4sII", 16, b"mehd", 0, 7000)
    mvex = struct.pack(">I4s", 8 + len(mehd), b"mvex") + mehd
    at = data.index(b"moov") - 4
    (size,) = struct.unpack_from(">I", data, at)
    data = data[:at] + struct.pack(">I", size + len(mvex)) + data[at + 4 :] + mvex
    assert read_movie(data) == Movie(7.0, False)


def test_the_pages_of_a_pdf_file_are_counted_and_read() -> None:
    count, texts = read_pdf(printed("one fish", "", "two fish"), 2)
    assert count == 3
    assert [text.strip() for text in texts] == ["one fish", ""]


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", drawing("red", "star", form="JPEG"), wav(1)[:30], movie(1)[:60], movie(0)],
    ids=["empty", "html", "jpeg", "cut wav", "cut movie", "no length"],
)
def test_bytes_of_another_kind_are_unreadable(data: bytes) -> None:
    for read in (sound_seconds, read_movie, lambda one: read_pdf(one, 6)):
        if read is sound_seconds and data[:4] == b"RIFF" and b"data" in data:
            continue
        with pytest.raises(UnreadableMedia):
            read(data)


WHOLE = {
    "wav": (wav(0.05), sound_seconds),
    "mp3": (id3(9) + mp3(0.2), sound_seconds),
    "movie": (movie(3, sound=True), read_movie),
    "pdf": (printed("one", "two"), lambda data: read_pdf(data, 6)),
    "png": (drawing("red", "star", size=(20, 20), radius=6), describe),
    "jpeg": (drawing("red", "star", size=(20, 20), radius=6, form="JPEG"), describe),
}


@pytest.mark.parametrize("kind", WHOLE)
@given(damage=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=5)), max_size=4),
       end=st.floats(0, 1))  # fmt: skip
def test_damaged_files_are_read_or_unreadable(
    kind: str, damage: list[tuple[float, bytes]], end: float
) -> None:
    whole, read = WHOLE[kind]
    data = bytearray(whole)
    for place, value in damage:
        at = int(place * len(data))
        data[at : at + len(value)] = value
    with contextlib.suppress(UnreadableMedia, UnreadableImage):
        read(bytes(data[: int(end * len(data)) + 1]))
