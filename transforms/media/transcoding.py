"""Turn images that the model does not accept into JPEG or PNG."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFacts, MediaFault
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.transforms.media.decoder_errors import decoding
from bulkembed.transforms.media.image_files import open_image
from bulkembed.transforms.media.media_types import name_of, true_type

JPEG_QUALITY = 90
PNG_LEVEL = 6
"""Fixed, so that a file always gives the same bytes with one version of Pillow."""

_THUMBNAIL_QUALITY = 70
_THUMBNAIL_PIXELS = 16_000_000
"""The largest image of which a thumbnail is made, if it is not a JPEG: each pixel takes memory."""
_STRIP_PIXELS = 1_000_000
_PNG_DEPTH = 24
_PNG_COLOR = 25
"""The places of two bytes in every PNG file: bits per channel, and the color type."""
_PALETTE = 3

Pixels = npt.NDArray[Any]
_PLAIN = ("L", "LA", "RGB", "RGBA")


def refused_form(data: bytes, facts: MediaFacts, settings: MediaSettings) -> str | None:
    """Return in words what of an image the model does not accept; None if it accepts the image."""
    if facts.mime not in settings.limits.types:
        return name_of(facts.mime)
    if facts.mode == "CMYK":
        return "a CMYK image"
    if facts.mime == "image/png" and data[_PNG_DEPTH] == 16:
        return "a PNG image of 16 bits per channel"
    if facts.mime == "image/png" and data[_PNG_COLOR] == _PALETTE:
        return "a PNG image with a palette"
    if facts.is_animated:
        return "an animated PNG image"
    return None


def exceeds_side(facts: MediaFacts, settings: MediaSettings) -> bool:
    """Return whether an image is larger than `max_image_side`."""
    side = settings.max_image_side
    return side is not None and max(facts.width or 0, facts.height or 0) > side


def transcode(
    data: bytes, mime: str, settings: MediaSettings
) -> tuple[bytes, str, tuple[int, int]]:
    """Return an image as JPEG, or as PNG if a pixel is transparent; its type; width and height.

    Only the first frame or page is taken. The EXIF orientation and the color profile are applied,
    and no metadata is written.

    Raises:
        MediaFault: the image cannot be decoded.
    """
    with decoding(name_of(mime)):
        return _encoded(_upright(data, mime, settings))


def png_of(image: Image.Image) -> bytes:
    """Return an open image as a PNG file without loss, as it is seen, in 8 bits per channel.

    Raises:
        MediaFault: the image cannot be decoded.
    """
    with decoding("an image"):
        copied = image.copy()  # The caller's own image stays as it is.
        _set_upright(copied)
        plain = _without_idle_alpha(_plain(copied))
        plain.info = {}
        target = io.BytesIO()
        plain.save(target, "PNG", compress_level=PNG_LEVEL)
        return target.getvalue()


def thumbnail(data: bytes, side: int) -> bytes:
    """Return an image of any readable type as a small JPEG, on white where it is transparent.

    Raises:
        MediaFault: the image cannot be decoded, or decoding it would take much memory.
    """
    mime = true_type(data)
    pixels = MediaSettings().max_pixels if mime == "image/jpeg" else _THUMBNAIL_PIXELS
    settings = MediaSettings(max_image_side=side, max_pixels=pixels)
    with decoding(name_of(mime)):
        image = _upright(data, mime, settings)
        if "A" in image.mode:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image).convert("RGB")
        image.info = {}
        target = io.BytesIO()
        image.save(target, "JPEG", quality=_THUMBNAIL_QUALITY)
        return target.getvalue()


def _upright(data: bytes, mime: str, settings: MediaSettings) -> Image.Image:
    """Return the first frame of an image, as it is seen, not larger than `max_image_side`."""
    image: Image.Image = open_image(data, mime, settings)
    side = settings.max_image_side
    if side is not None:
        image.draft(image.mode, (2 * side, 2 * side))  # Of a JPEG: decode it smaller.
    image.load()
    _set_upright(image)
    image = _without_idle_alpha(_plain(image))
    if side is not None:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _encoded(image: Image.Image) -> tuple[bytes, str, tuple[int, int]]:
    target = io.BytesIO()
    image.info = {}  # Encoders write some of it: profile, comment, resolution.
    if "A" in image.mode:
        image.save(target, "PNG", compress_level=PNG_LEVEL)
        return target.getvalue(), "image/png", image.size
    image.save(target, "JPEG", quality=JPEG_QUALITY)
    return target.getvalue(), "image/jpeg", image.size


def _set_upright(image: Image.Image) -> None:
    """Apply the EXIF orientation; damaged metadata is left alone, as the pixels are still good."""
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _plain(image: Image.Image) -> Image.Image:
    """Return an image with 8 bits per channel in sRGB or gray, with or without alpha."""
    profile = image.info.get("icc_profile")
    if profile and image.mode == "CMYK":
        return _in_plain_mode(_in_srgb(image, profile))
    image = _in_plain_mode(image)
    return _in_srgb(image, profile) if profile else image


def _in_plain_mode(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _gray(image, lambda values: values >> 8)
    if image.mode in ("I", "F"):
        return _stretched(image)
    if image.has_transparency_data and image.mode not in ("LA", "RGBA"):
        return image.convert("LA" if image.mode in ("1", "L", "La") else "RGBA")
    if image.mode in _PLAIN:
        return image
    try:
        return image.convert("L" if image.mode == "1" else "RGB")
    except ValueError as error:
        raise MediaFault(
            DeadCode.UNSUPPORTED_TYPE, f"an image in the color mode {image.mode}"
        ) from error


def _stretched(image: Image.Image) -> Image.Image:
    """Return an image of 32-bit pixels in gray, from its darkest to its brightest pixel."""
    strips = (_finite(strip) for _, strip in _strips(image))
    ends = [(float(strip.min()), float(strip.max())) for strip in strips]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    scale = 255.0 / (high - low) if high > low else 0.0
    return _gray(image, lambda values: (_finite(values) - low) * scale)


def _finite(values: Pixels) -> Pixels:
    return np.nan_to_num(values, posinf=0.0, neginf=0.0)


def _gray(image: Image.Image, change: Callable[[Pixels], Pixels]) -> Image.Image:
    """Return an image in gray whose pixels are changed strip by strip, to bound the memory."""
    gray = Image.new("L", image.size)
    for top, strip in _strips(image):
        gray.paste(Image.fromarray(change(strip).astype(np.uint8)), (0, top))
    return gray


def _strips(image: Image.Image) -> Iterator[tuple[int, Pixels]]:
    """Yield the place and the pixels of each strip of an image."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield top, np.asarray(image.crop((0, top, width, min(top + rows, height))))


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Return an image with its color profile applied; unchanged if the profile does not fit."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        changed = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode=mode
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return image if changed is None else changed


def _without_idle_alpha(image: Image.Image) -> Image.Image:
    """Return an image without its alpha channel if no pixel is transparent."""
    if "A" not in image.mode or image.getchannel("A").getextrema()[0] != 255:
        return image
    return image.convert(image.mode.removesuffix("A"))
