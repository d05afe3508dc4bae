"""The options of `bulkembed emulator` for media."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import click

from bulkembed.emulator.media_rules import MediaRules

_F = TypeVar("_F", bound=Callable[..., Any])
_HELP = {
    "body_bytes": "Maximum bytes of a request body with media.",
    "body_status": "Status for a body over a limit: 400, or 413 (an HTML page).",
    "call_images": "Maximum images of a request; 0: no limit.",
    "images": "Maximum images of a content.",
    "files": "Maximum PDF files of a content, and as many audio and video files.",
    "audio_seconds": "Maximum seconds of an audio file.",
    "video_seconds": "Maximum seconds of a video.",
    "track_seconds": "Maximum seconds of a video whose audio track is embedded.",
    "pages": "Maximum pages of a PDF file.",
    "cut_long": "Cut media over its length, instead of refusing it.",
    "refuse_wrong_types": "Refuse media whose MIME type is not that of its bytes.",
    "refuse_odd_images": "Refuse images with CMYK, 16 bits or a palette, and animated ones.",
    "developer_gs": "Read gs:// URIs on the Developer API too.",
}


def media_options(command: _F) -> _F:
    """Add the options to a command; `media_rules` reads them."""
    for field in reversed(dataclasses.fields(MediaRules)):
        name, default = f"--media-{field.name.replace('_', '-')}", field.default
        if isinstance(default, bool):
            off = f"/--no-{name[2:]}" if default else ""
            option = click.option(name + off, default=default, is_flag=True, help=_HELP[field.name])
        else:
            option = click.option(
                name, type=type(default), default=default, show_default=True, help=_HELP[field.name]
            )
        command = option(command)
    return command


def media_rules(options: dict[str, Any]) -> MediaRules:
    """Remove the options from a command's, and return their settings."""
    names = [field.name for field in dataclasses.fields(MediaRules)]
    return MediaRules(**{name: options.pop(f"media_{name}") for name in names})
