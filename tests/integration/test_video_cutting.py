"""Videos are cut by the real ffmpeg, and by nothing where it is not installed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
from support.media_samples import mp4

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFault, MediaKind, MediaLimits
from bulkembed.schemas.media_settings import LongMedia, MediaSettings
from bulkembed.transforms.media.mp4_files import mp4_seconds
from bulkembed.transforms.media.prepare_media import prepare_media

PIECES = MediaSettings(
    long_media=LongMedia.PIECES,
    piece_overlap_seconds=1,
    limits=MediaLimits(video_seconds=6),
)


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the ffmpeg of a package on the path."""
    folder = tmp_path / "programs"
    folder.mkdir()
    program = folder / "ffmpeg"
    program.symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return program


def video(program: Path, target: Path, *options: str) -> bytes:
    """Return 15 s of a small video with sound and a key frame every 2 s."""
    sources = ["-f", "lavfi", "-i", "testsrc=d=15:s=64x48:r=10", "-f", "lavfi", "-i", "sine=d=15"]
    codecs = ["-c:v", "mpeg4", "-g", "20", "-c:a", "aac", *options]
    subprocess.run([program, "-v", "error", "-y", *sources, *codecs, target], check=True)
    return target.read_bytes()


def decoded(program: Path, data: bytes, file: Path) -> tuple[float, set[str]]:
    """Return the length that ffmpeg reports for a file, and the kinds of its streams."""
    file.write_bytes(data)
    words = subprocess.run(
        [program, "-i", file, "-f", "null", "-"], capture_output=True, text=True, check=True
    ).stderr
    hours, minutes, seconds = re.findall(r"Duration: (\d+):(\d+):([\d.]+)", words)[0]
    length = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return length, set(re.findall(r"Stream #0:\d.*?: (Video|Audio)", words.split("Output")[0]))


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mp4", ()),
        (".mp4", ("-movflags", "faststart")),
        (".mp4", ("-movflags", "frag_keyframe+empty_moov")),
        (".mov", ()),
    ],
    ids=["mp4", "header-first", "fragmented", "mov"],
)
def test_a_video_is_cut_into_pieces(
    ffmpeg: Path, tmp_path: Path, suffix: str, options: tuple[str, ...]
) -> None:
    data = video(ffmpeg, tmp_path / f"source{suffix}", *options)
    assert mp4_seconds(data) == pytest.approx(15, abs=0.2)
    parts = prepare_media(data, MediaKind.VIDEO, PIECES)
    assert [part.start for part in parts] == [0, 5, 10]
    assert [part.end for part in parts] == [6, 11, pytest.approx(15, abs=0.2)]
    for part, expected_s in zip(parts, (6, 6, 5), strict=True):
        length, streams = decoded(ffmpeg, part.data, tmp_path / f"piece{suffix}")
        assert expected_s - 0.7 <= length <= 6
        assert streams == {"Video", "Audio"}
        assert part.mime == ("video/quicktime" if suffix == ".mov" else "video/mp4")


@pytest.mark.parametrize(("audio_track", "pieces"), [(True, 3), (False, 1)])
def test_a_video_with_its_audio_track_is_cut_to_the_lower_limit(
    ffmpeg: Path, tmp_path: Path, audio_track: bool, pieces: int
) -> None:
    data = video(ffmpeg, tmp_path / "source.mp4")
    limits = MediaLimits(track_seconds=6)
    settings = MediaSettings(long_media=LongMedia.PIECES, audio_track=audio_track, limits=limits)
    parts = prepare_media(data, MediaKind.VIDEO, settings)
    assert len(parts) == pieces
    if audio_track:
        assert all(mp4_seconds(part.data) <= 6 for part in parts)
        assert sum(part.audio_tokens for part in parts) == pytest.approx(15 * 25, abs=10)


def test_what_ffmpeg_cannot_read_is_a_dead_letter(ffmpeg: Path) -> None:
    with pytest.raises(MediaFault, match="cutting the video with ffmpeg failed") as caught:
        prepare_media(mp4(9), MediaKind.VIDEO, PIECES)
    assert caught.value.code is DeadCode.CORRUPT_MEDIA
    assert "/tmp" not in str(caught.value)


def test_without_ffmpeg_a_long_video_is_a_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MediaFault, match="ffmpeg, which cuts videos, is not installed") as caught:
        prepare_media(mp4(9), MediaKind.VIDEO, PIECES)
    assert caught.value.code is DeadCode.TOO_LONG
    assert len(prepare_media(mp4(5), MediaKind.VIDEO, PIECES)) == 1
