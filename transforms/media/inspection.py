"""Find out what a media file is: its size, its length or its pages."""

from __future__ import annotations

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFacts, MediaFault, MediaKind
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.transforms.media.image_files import inspect_image
from bulkembed.transforms.media.media_types import name_of
from bulkembed.transforms.media.mp3_files import read_mp3
from bulkembed.transforms.media.mp4_files import has_audio_track, mp4_seconds
from bulkembed.transforms.media.pdf_files import open_pdf
from bulkembed.transforms.media.wav_files import read_wav


def inspect_media(data: bytes, mime: str, kind: MediaKind, settings: MediaSettings) -> MediaFacts:
    """Return the facts that the headers of a file give; images are not decoded.

    Args:
        data: the bytes of the file.
        mime: its true type.
        kind: the kind of media.
        settings: the limit of pixels, and the types that the model accepts.

    Raises:
        MediaFault: the headers cannot be read, or the type is not accepted.
    """
    if kind is MediaKind.IMAGE:
        return inspect_image(data, mime, settings)
    match mime:
        case "audio/wav":
            return MediaFacts(kind, mime, seconds=read_wav(data).seconds)
        case "audio/mpeg":
            return MediaFacts(kind, mime, seconds=read_mp3(data).seconds)
        case "video/mp4" | "video/quicktime":
            seconds = mp4_seconds(data)
            has_sound = settings.audio_track and has_audio_track(data)
            return MediaFacts(kind, mime, seconds=seconds, has_sound=has_sound)
        case "application/pdf":
            return MediaFacts(kind, mime, pages=len(open_pdf(data).pages))
    accepted = [name_of(each) for each in settings.limits.types if each.startswith(f"{kind}/")]
    raise MediaFault(
        DeadCode.UNSUPPORTED_TYPE,
        f"{name_of(mime)} is not accepted. Convert it to {' or '.join(accepted)}",
    )
