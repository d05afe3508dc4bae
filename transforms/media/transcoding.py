"""Turn images that the model does not accept into JPEG or PNG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms, ImageOps

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFacts, MediaFault, MediaSettings
from bulkembed.transforms.media.decoder_errors import decoding
from bulkembed.transforms.media.image_files import open_image
from bulkembed.transforms.media.media_types import name_of

JPEG_QUALITY = 90
PNG_LEVEL = 6
"""Fixed, so that a file always gives the same bytes with one version of Pillow."""

_PNG_DEPTH = 24
_PNG_COLOR = 25
"""The places of two bytes in every PNG file: bits per channel, and the color type."""
_PALETTE = 3
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
    return None


def exceeds_side(facts: MediaFacts, settings: MediaSettings) -> bool:
    """Return whether an image is larger than `max_image_side`."""
    side = settings.max_image_side
    return side is not None and max(facts.width or 0, facts.height or 0) > side


def transcode(
    data: bytes, mime: str, settings: MediaSettings
) -> tuple[bytes, str, tuple[int, int]]:
    """Return an image as JPEG, or as PNG if a pixel is transparent; its type; width and height.

    Only the first frame or page is taken.  The EXIF orientation and the color profile are applied,
    and no metadata is written.

    Raises:
        MediaFault: the image cannot be decoded.
    """
    image: Image.Image = open_image(data, mime, settings)
    with decoding(name_of(mime)):
        if settings.max_image_side is not None:
            image.thumbnail((settings.max_image_side,) * 2, Image.Resampling.LANCZOS)
        image.load()
        profile = image.info.get("icc_profile")
        image = _plain(_upright(image))
        if profile:
            image = _in_srgb(image, profile)
        return _encoded(_without_idle_alpha(image))


def _encoded(image: Image.Image) -> tuple[bytes, str, tuple[int, int]]:
    target = io.BytesIO()
    image.info = {}  # Encoders write some of it: profile, comment, resolution.
    if "A" in image.mode:
        image.save(target, "PNG", compress_level=PNG_LEVEL)
        return target.getvalue(), "image/png", image.size
    image.save(target, "JPEG", quality=JPEG_QUALITY)
    return target.getvalue(), "image/jpeg", image.size


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Damaged metadata: the pixels are still good.
        return image


def _plain(image: Image.Image) -> Image.Image:
    """Return an image with 8 bits per channel in one of the modes _PLAIN."""
    if image.mode == "CMYK" and image.info.get("icc_profile"):
        image = _in_srgb(image, image.info["icc_profile"])
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
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
    values = np.nan_to_num(np.asarray(image, np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    gray = (values - low) * (255.0 / (high - low) if high > low else 0.0)
    return Image.fromarray(gray.astype(np.uint8))


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
