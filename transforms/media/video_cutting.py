"""Cut videos with ffmpeg, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFault
from bulkembed.transforms.media.mp4_files import mp4_seconds

_TIMEOUT_S = 120.0
_TRIES = 4
_MARGIN_S = 0.1


def video_piece(data: bytes, mime: str, start_s: float, end_s: float, *, limit_s: float) -> bytes:
    """Return a part of an MP4 or MOV file, with the video and audio as they are encoded.

    Frames are not encoded again, so that a piece may start up to a few seconds before `start_s`, at
    a frame that needs no other. Its end is moved forward if it would last longer than `limit_s`.

    Raises:
        MediaFault: ffmpeg is not installed, or cannot read the file.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise MediaFault(
            DeadCode.TOO_LONG,
            "the video is too long, and ffmpeg, which cuts videos, is not installed here",
        )
    suffix = ".mov" if mime == "video/quicktime" else ".mp4"
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source" + suffix), Path(folder, "piece" + suffix)
        source.write_bytes(data)
        for _ in range(_TRIES):
            _run(_command(program, source, target, start_s, end_s), folder)
            piece = target.read_bytes()
            excess_s = mp4_seconds(piece) - limit_s
            if excess_s <= 0:
                return piece
            end_s -= excess_s + _MARGIN_S
    raise _fault(f"gives pieces of more than {limit_s:g} s. Use a lower --piece-seconds")


def _run(command: list[str], folder: str) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _fault(f"did not end within {_TIMEOUT_S:g} s") from error
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").replace(f"{folder}/", "").split()
        raise _fault(f"failed: {' '.join(words)[-200:]}")


def _command(program: str, source: Path, target: Path, start_s: float, end_s: float) -> list[str]:
    # Only this format and only files: a file that lists other files or addresses is not followed.
    reading = ["-protocol_whitelist", "file", "-f", "mov", "-ss", f"{start_s:.3f}"]
    cutting = ["-t", f"{end_s - start_s:.3f}", "-map", "0:v:0", "-map", "0:a:0?", "-c", "copy"]
    plain = ["-map_metadata", "-1", "-fflags", "+bitexact", "-y", f"file:{target}"]
    return [program, "-nostdin", "-v", "error", *reading, "-i", f"file:{source}", *cutting, *plain]


def _fault(what: str) -> MediaFault:
    return MediaFault(DeadCode.CORRUPT_MEDIA, f"cutting the video with ffmpeg {what}")
