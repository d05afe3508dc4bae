"""Read a content of a request: its parts are texts and media."""

from __future__ import annotations

from bulkembed.emulator import wire
from bulkembed.emulator.api_errors import invalid
from bulkembed.emulator.faults import file_failure
from bulkembed.emulator.media_parts import (
    MediaPart,
    MediaSwitches,
    check_counts,
    decode_base64,
    read_media,
)
from bulkembed.emulator.media_uris import unreadable_uri
from bulkembed.emulator.targets import Parts, Target

EMPTY_PART = "EmbedContentRequest.content contains an empty Part."
_DATA = (
    "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode",
    "codeExecutionResult",
)  # fmt: skip
"""The fields of a part of which it has one."""
_TEXT = {"text"}
_MEDIA = ("inlineData", "fileData")
_NAMES = (b'"inline_data"', b'"inlineData"', b'"file_data"', b'"fileData"')


def names_media(raw: bytes) -> bool:
    """Return whether the JSON of a request seems to have media."""
    return any(name in raw for name in _NAMES)


def read_content(
    target: Target, value: object, where: str, options: wire.Message | None = None
) -> Parts:
    """Return the parts of a content, in order; `options` may say how its media is read.

    Raises:
        ApiError: the service would refuse it.
    """
    content = wire.Message(value, where, wire.CONTENT)
    content.text("role")
    others, parts = False, list[str | MediaPart]()
    for part_value, part_where in content.items("parts"):
        part = wire.Message(part_value, part_where, wire.PART)
        text = part.text("text")
        if text is not None and part.names() == _TEXT and text.strip():
            parts.append(text)
        else:
            others = True
            parts.append(_other_part(target, part, text, options))
    if others:
        media = [part for part in parts if isinstance(part, MediaPart)]
        check_counts(media, target.settings.media)
    return tuple(parts)


def has_media(parts: Parts) -> bool:
    """Return whether a content has media."""
    return any(isinstance(part, MediaPart) for part in parts)


def _other_part(
    target: Target, part: wire.Message, text: str | None, options: wire.Message | None
) -> str | MediaPart:
    """Return a part that is not a text alone."""
    given = [name for name in _DATA if name in part]
    if len(given) > 1:
        raise wire.second_of_oneof(part.where, given[1])
    if given == ["text"] and text is not None and (text.strip() or target.settings.blank_texts):
        return text
    if not given or given == ["text"]:
        raise invalid(EMPTY_PART, "empty_part")
    changing = ("videoMetadata", "mediaResolution")
    if given[0] not in _MEDIA or any(name in part for name in changing):
        raise invalid(f"The emulator embeds text, inline_data and file_data only: {part.where}.")
    if not target.spec.takes_media:
        raise invalid(f"* EmbedContentRequest.content: models/{target.spec.name} takes text only\n")
    read = _inline_file if given == ["inlineData"] else _named_file
    data, mime = read(target, part.get(given[0]), part.path(given[0]))
    if not data:
        raise invalid(EMPTY_PART, "empty_part")
    if (failure := file_failure(target.settings, data)) is not None:
        raise failure
    return read_media(data, mime, _switches(target, options), target.settings.media)


def _inline_file(target: Target, value: object, where: str) -> tuple[bytes, str]:
    """Return the bytes of a file and its declared type."""
    blob = wire.Message(value, where, wire.BLOB)
    data = decode_base64(blob.text("data") or "", blob.path("data"))
    return data, blob.text("mimeType") or ""


def _named_file(target: Target, value: object, where: str) -> tuple[bytes, str]:
    file = wire.Message(value, where, wire.FILE_DATA)
    uri, mime = file.text("fileUri") or "", file.text("mimeType") or ""
    if target.uris is None:
        raise unreadable_uri(uri)
    data, uploaded_as = target.uris.read(uri, vertex=target.vertex)
    return data, mime or uploaded_as


def _switches(target: Target, options: wire.Message | None) -> MediaSwitches:
    if options is None:
        return MediaSwitches(target.vertex)
    return MediaSwitches(
        target.vertex,
        document_ocr=options.flag("documentOcr") is True,
        audio_track=options.flag("audioTrackExtraction") is True,
    )
