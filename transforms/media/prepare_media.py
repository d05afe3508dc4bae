"""The one entry: from the bytes of a media part to what is sent for it."""

from __future__ import annotations

import functools
import importlib.util

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.media import (
    MediaFacts,
    MediaFault,
    MediaKind,
    PreparedMedia,
    audio_tokens,
    media_tokens,
)
from bulkembed.schemas.media_settings import LongMedia, MediaCheck, MediaSettings, Transcode
from bulkembed.transforms.media.media_types import kind_of, name_of, true_type

_PACKAGES = ("PIL", "pypdf")


@functools.cache
def check_installed() -> None:
    """Check that the packages of the extra `media` are installed.

    Raises:
        ConfigError: a package is not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in _PACKAGES):
        raise ConfigError(
            "Images, audio, video and PDF files need the extra `media`. "
            "Run: pip install 'bulkembed[media]'"
        )


def prepare_media(data: bytes, kind: MediaKind, settings: MediaSettings) -> list[PreparedMedia]:
    """Check one media file, and return what is sent for it, in the order of the file.

    What the model accepts is returned as it is, byte for byte; other images as JPEG or PNG. The
    list has one element unless `settings.long_media` is `pieces`.

    Args:
        data: the bytes of the file.
        kind: the kind that the part's column is declared as.
        settings: the checks, and what to do with what the model does not accept.

    Raises:
        MediaFault: the model cannot take the file: its code and the reason.
        ConfigError: the extra `media` is not installed.
    """
    check_installed()
    mime = checked_type(data, kind, settings)
    if kind is MediaKind.IMAGE:
        return [_prepared_image(data, mime, settings)]
    return _prepared_length(data, mime, kind, settings)


def checked_type(data: bytes, kind: MediaKind, settings: MediaSettings) -> str:
    """Return the true type of a media file that may be of use for its part.

    Raises:
        MediaFault: the file is empty, too large, or not of this kind.
    """
    if not data:
        raise MediaFault(DeadCode.CORRUPT_MEDIA, "the file is empty (0 bytes)")
    if len(data) > settings.max_source_bytes:
        raise MediaFault(
            DeadCode.TOO_LARGE,
            f"the file has {len(data):,} bytes, but at most {settings.max_source_bytes:,} are "
            "read. Raise --max-source-bytes",
        )
    mime = true_type(data)
    if kind_of(mime) is not kind:
        raise MediaFault(DeadCode.UNSUPPORTED_TYPE, f"{name_of(mime)} instead of {kind.noun}")
    return mime


def _prepared_image(data: bytes, mime: str, settings: MediaSettings) -> PreparedMedia:
    from bulkembed.transforms.media.image_files import check_decodes, inspect_image
    from bulkembed.transforms.media.transcoding import exceeds_side, refused_form, transcode

    as_is = mime in settings.limits.types
    if as_is and settings.check is MediaCheck.OFF and settings.max_image_side is None:
        return _sent(MediaKind.IMAGE, mime, data, settings)
    facts = inspect_image(data, mime, settings)
    refused = refused_form(data, facts, settings)
    if refused and settings.transcode is Transcode.OFF:
        raise MediaFault(
            DeadCode.UNSUPPORTED_TYPE, f"{refused} is not accepted. Use --transcode auto"
        )
    size = (facts.width, facts.height)
    if refused or exceeds_side(facts, settings):
        data, mime, size = transcode(data, mime, settings)
    elif settings.check is MediaCheck.DECODE:
        check_decodes(data, mime, settings)
    return _sent(MediaKind.IMAGE, mime, data, settings, size=size)


def _prepared_length(
    data: bytes, mime: str, kind: MediaKind, settings: MediaSettings
) -> list[PreparedMedia]:
    """Prepare what has seconds or pages."""
    from bulkembed.transforms.media.inspection import inspect_media
    from bulkembed.transforms.media.pieces import cut_media, exceeds_limit, too_long

    is_off = settings.check is MediaCheck.OFF
    try:
        facts = inspect_media(data, mime, kind, settings)
    except MediaFault as fault:
        if not is_off or fault.code is not DeadCode.CORRUPT_MEDIA:
            raise
        facts = MediaFacts(kind, mime)
    is_whole = settings.long_media is LongMedia.DEAD_LETTER
    if not exceeds_limit(facts, settings) or (is_whole and is_off):
        return [
            _sent(
                kind, mime, data, settings,
                seconds=facts.seconds, pages=facts.pages, has_sound=facts.has_sound,
            )
        ]  # fmt: skip
    if is_whole:
        raise too_long(facts, settings)
    return [
        _sent(
            kind,
            mime,
            piece.data,
            settings,
            seconds=None if kind is MediaKind.PDF else piece.end - piece.start,
            pages=int(piece.end - piece.start) if kind is MediaKind.PDF else None,
            has_sound=facts.has_sound,
            start=piece.start,
            end=piece.end,
        )
        for piece in cut_media(data, facts, settings)
    ]


def _sent(
    kind: MediaKind,
    mime: str,
    data: bytes,
    settings: MediaSettings,
    *,
    size: tuple[int | None, int | None] = (None, None),
    seconds: float | None = None,
    pages: int | None = None,
    has_sound: bool = False,
    start: float | None = None,
    end: float | None = None,
) -> PreparedMedia:
    if len(data) > settings.max_bytes:
        raise MediaFault(
            DeadCode.TOO_LARGE,
            f"{name_of(mime)} of {len(data):,} bytes, but at most {settings.max_bytes:,} are sent. "
            "Raise --max-media-bytes" + _SMALLER.get(kind, ""),
        )
    of_track = audio_tokens(seconds) if has_sound else 0
    return PreparedMedia(
        kind=kind,
        mime=mime,
        data=data,
        tokens=of_track + media_tokens(kind, seconds=seconds, pages=pages, limits=settings.limits),
        audio_tokens=of_track,
        seconds=seconds,
        pages=pages,
        width=size[0],
        height=size[1],
        start=start,
        end=end,
    )


_SMALLER = {
    MediaKind.IMAGE: ", or use --max-image-side",
    MediaKind.AUDIO: ", convert it to MP3, or use --long-media head with a lower --piece-seconds",
    MediaKind.VIDEO: ", or use --long-media head with a lower --piece-seconds",
    MediaKind.PDF: ", or use --long-media head with a lower --piece-pages",
}
