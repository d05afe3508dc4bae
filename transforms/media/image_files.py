"""Open and check images with Pillow.

Each type is opened by its own reader, never by guessing, so that the types which this module does
not name (among them those that start other programs) are never read. Pillow's own limit of pixels
is for `Image.open`, which is not used: `MediaSettings.max_pixels` holds before anything is decoded.
"""

from __future__ import annotations

import importlib
import io
import warnings

from PIL import Image, ImageFile

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFacts, MediaFault, MediaKind
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.transforms.media.decoder_errors import decoding
from bulkembed.transforms.media.media_types import name_of

_READERS = {
    "image/jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "image/png": ("PIL.PngImagePlugin", "PngImageFile"),
    "image/gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "image/webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "image/bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "image/tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "image/avif": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "image/heic": ("pillow_heif", "HeifImageFile"),
}
_MAX_SCANS = 100
"""Of a progressive JPEG; encoders write about 10. Each costs a pass over the whole image."""
_TILE_TAGS = (322, 323)

# What Pillow has to say of damaged metadata is not for the user: the pixels are what is sent.
warnings.filterwarnings("ignore", module=r"PIL\.")


def inspect_image(data: bytes, mime: str, settings: MediaSettings) -> MediaFacts:
    """Return the size and mode of an image, from its header.

    Raises:
        MediaFault: the header cannot be read, the image has too many pixels, or its type cannot be
            read here.
    """
    return _facts(open_image(data, mime, settings), mime)


def check_decodes(data: bytes, mime: str, settings: MediaSettings) -> MediaFacts:
    """Decode the first frame of an image, and return its size and mode.

    A JPEG is decoded at an eighth of its size: all of its bytes are read, and memory stays small.

    Raises:
        MediaFault: as `inspect_image`, or the pixels cannot be decoded.
    """
    image = open_image(data, mime, settings)
    facts = _facts(image, mime)
    with decoding(name_of(mime)):
        if mime == "image/png":
            image.verify()  # The checksums of all chunks; it needs a file of its own.
            image = open_image(data, mime, settings)
        image.draft(image.mode, (1, 1))
        image.load()
    return facts


def open_image(data: bytes, mime: str, settings: MediaSettings) -> ImageFile.ImageFile:
    """Open an image without decoding it.

    Raises:
        MediaFault: as `inspect_image`.
    """
    reader = _reader(mime)
    if mime == "image/webp":
        _check_pixels(_webp_size(data), settings)  # Its decoder allocates two frames at once.
    with decoding(name_of(mime)):
        try:
            image = reader(io.BytesIO(data))
        except Image.DecompressionBombError as error:  # Some readers have the limit of Pillow too.
            raise MediaFault(DeadCode.TOO_MANY_PIXELS, f"{name_of(mime)}: {error}") from error
    _check_pixels(image.size, settings)
    if mime == "image/tiff":
        tags = getattr(image, "tag_v2", {})
        _check_pixels((tags.get(_TILE_TAGS[0], 1), tags.get(_TILE_TAGS[1], 1)), settings)
    if mime == "image/jpeg" and (scans := data.count(b"\xff\xda")) > _MAX_SCANS:
        raise MediaFault(
            DeadCode.CORRUPT_MEDIA, f"the JPEG image has {scans:,} scans, which is no real image"
        )
    return image


def _facts(image: Image.Image, mime: str) -> MediaFacts:
    width, height = image.size
    moves = mime == "image/png" and getattr(image, "is_animated", False)
    return MediaFacts(
        MediaKind.IMAGE, mime, width=width, height=height, mode=image.mode, is_animated=moves
    )


def _reader(mime: str) -> type[ImageFile.ImageFile]:
    if mime not in _READERS:
        raise MediaFault(DeadCode.UNSUPPORTED_TYPE, f"{name_of(mime)} cannot be transcoded")
    module, name = _READERS[mime]
    if mime == "image/heic":
        return _heic_reader(module)
    reader: type[ImageFile.ImageFile] = getattr(importlib.import_module(module), name)
    return reader


def _heic_reader(module: str) -> type[ImageFile.ImageFile]:
    try:
        plugin = importlib.import_module(module)
    except ImportError as error:
        raise MediaFault(
            DeadCode.UNSUPPORTED_TYPE,
            "a HEIC image can be transcoded only if the package `pillow-heif` is installed",
        ) from error
    if "HEIF" not in Image.OPEN:
        plugin.register_heif_opener()
    reader: type[ImageFile.ImageFile] = Image.OPEN["HEIF"][0]  # type: ignore[assignment]
    return reader


def _check_pixels(size: tuple[int, int], settings: MediaSettings) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise MediaFault(DeadCode.CORRUPT_MEDIA, f"the image has a size of {width} x {height}")
    if width * height > settings.max_pixels:
        raise MediaFault(
            DeadCode.TOO_MANY_PIXELS,
            f"the image has {width:,} x {height:,} = {width * height:,} pixels, but at most "
            f"{settings.max_pixels:,} are allowed. Raise --max-image-pixels, or reduce the image",
        )


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return the size that the header of a WEBP file declares; (1, 1) if it is not readable."""
    chunk = data[12:16]
    if chunk == b"VP8X" and len(data) >= 30:
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    if chunk == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 " and len(data) >= 30:
        return (
            int.from_bytes(data[26:28], "little") & 0x3FFF or 1,
            int.from_bytes(data[28:30], "little") & 0x3FFF or 1,
        )
    return 1, 1
