"""Cut media that is too long for the model into a head or into pieces."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFacts, MediaFault, MediaKind
from bulkembed.schemas.media_settings import LongMedia, MediaSettings
from bulkembed.transforms.media.mp3_files import read_mp3
from bulkembed.transforms.media.pdf_files import open_pdf, pdf_piece
from bulkembed.transforms.media.video_cutting import video_piece
from bulkembed.transforms.media.wav_files import read_wav

Cut = Callable[[float, float], bytes]


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file, in seconds or pages from 0, the end exclusive."""

    start: float
    end: float
    data: bytes = dataclasses.field(repr=False)


def exceeds_limit(facts: MediaFacts, settings: MediaSettings) -> bool:
    """Return whether a file is longer than the model accepts, or than a piece if it may be cut."""
    if settings.long_media is LongMedia.DEAD_LETTER:
        return _length(facts) > _limit(facts, settings)
    return _length(facts) > _sizes(facts, settings)[0]


def too_long(facts: MediaFacts, settings: MediaSettings) -> MediaFault:
    """Return the fault of a file that is longer than the model accepts."""
    limit = _limit(facts, settings)
    if facts.kind is MediaKind.PDF:
        what = f"the PDF file has {facts.pages:,} pages, but the model accepts at most {limit:g}"
        return MediaFault(DeadCode.TOO_MANY_PAGES, what + ". Use --long-media head or pieces")
    what = f"the {facts.kind} lasts {facts.seconds:,.1f} s, but the model accepts at most {limit:g}"
    with_track = " of a video with its audio track" if facts.has_sound else ""
    what += f" s{with_track}. Use --long-media head or pieces"
    return MediaFault(DeadCode.TOO_LONG, what)


def cut_media(data: bytes, facts: MediaFacts, settings: MediaSettings) -> list[Piece]:
    """Cut a file that is too long: one piece for its head, or all of its pieces.

    Raises:
        MediaFault: the file cannot be cut, or its pieces have too many bytes together.
    """
    piece, overlap = _sizes(facts, settings)
    length = piece if settings.long_media is LongMedia.HEAD else _length(facts)
    cut = _cutter(data, facts, settings)
    pieces, total = [], 0
    for start, end in piece_spans(length, piece, overlap):
        content = cut(start, end)
        total += len(content)
        if total > 2 * settings.max_source_bytes:
            raise MediaFault(
                DeadCode.TOO_LARGE,
                f"its pieces have more than {2 * settings.max_source_bytes:,} bytes together. "
                "Raise --max-source-bytes, or use --long-media head",
            )
        if content:
            pieces.append(Piece(start, end, content))
    return pieces


def piece_spans(length: float, piece: float, overlap: float) -> Iterator[tuple[float, float]]:
    """Yield where each piece starts and ends, so that pieces overlap and cover the length."""
    index = 0
    while True:
        start = index * (piece - overlap)
        yield start, min(start + piece, length)
        if start + piece >= length:
            return
        index += 1


def _length(facts: MediaFacts) -> float:
    return (facts.pages if facts.kind is MediaKind.PDF else facts.seconds) or 0


def _limit(facts: MediaFacts, settings: MediaSettings) -> float:
    if facts.kind is MediaKind.PDF:
        return settings.limits.pages
    return settings.limits.seconds(facts.kind, has_sound=facts.has_sound)


def _sizes(facts: MediaFacts, settings: MediaSettings) -> tuple[float, float]:
    if facts.kind is MediaKind.PDF:
        return settings.pages_of_piece, settings.piece_overlap_pages
    piece = settings.seconds_of_piece(facts.kind, has_sound=facts.has_sound)
    return piece, settings.piece_overlap_seconds


def _cutter(data: bytes, facts: MediaFacts, settings: MediaSettings) -> Cut:
    limit_s = _limit(facts, settings)
    match facts.mime:
        case "audio/wav":
            wav = read_wav(data)
            if not wav.can_be_cut:
                raise MediaFault(
                    DeadCode.TOO_LONG,
                    f"the audio lasts {facts.seconds:,.1f} s, and a WAV file with compressed "
                    "samples cannot be cut. Convert it to PCM",
                )
            return lambda start, end: wav.piece(data, start, end)
        case "audio/mpeg":
            mp3 = read_mp3(data)
            return lambda start, end: mp3.piece(data, start, end, limit_s=limit_s)
        case "application/pdf":
            reader = open_pdf(data)
            return lambda start, end: pdf_piece(reader, int(start), int(end))
    return lambda start, end: video_piece(data, facts.mime, start, end, limit_s=limit_s)
