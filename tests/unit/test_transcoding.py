"""Images that the model refuses become JPEG or PNG and look the same."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.media_samples import opened, picture, png_chunk, png_of, saved

from bulkembed.schemas.media import MediaKind, PreparedMedia
from bulkembed.schemas.media_settings import MediaCheck, MediaSettings
from bulkembed.transforms.media.prepare_media import prepare_media

SETTINGS = MediaSettings()
RED, BLUE = (220, 30, 30), (30, 30, 220)
ORIENTATION = 0x0112
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def sent(data: bytes, settings: MediaSettings = SETTINGS) -> PreparedMedia:
    (only,) = prepare_media(data, MediaKind.IMAGE, settings)
    image = opened(only.data)
    assert (only.mime, only.width, only.height) == (f"image/{image.format.lower()}", *image.size)
    return only


def halves(first: tuple[int, ...] = RED, second: tuple[int, ...] = BLUE) -> Image.Image:
    """Return an image of 32 x 16 pixels, its left half in one color and its right in another."""
    mode = "RGBA" if len(first) == 4 else "RGB"
    image = Image.new(mode, (32, 16), first)
    image.paste(second, (16, 0, 32, 16))
    return image


def frames(name: str, **options: object) -> bytes:
    """Return an animation that begins with `halves`."""
    return saved(halves(), name, save_all=True, append_images=[halves(BLUE, RED)], **options)


def is_near(pixel: object, color: tuple[int, ...], within: int = 12) -> bool:
    return bool(np.abs(np.subtract(pixel, color)).max() <= within)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(halves(), "WEBP", quality=95), id="webp"),
        pytest.param(frames("WEBP", quality=95), id="animated-webp"),
        pytest.param(saved(halves(), "GIF"), id="gif"),
        pytest.param(frames("GIF"), id="animated-gif"),
        pytest.param(saved(halves(), "BMP"), id="bmp"),
        pytest.param(saved(halves(), "TIFF"), id="tiff"),
        pytest.param(frames("TIFF"), id="tiff-of-two-pages"),
        pytest.param(saved(halves(), "TIFF", compression="jpeg", quality=95), id="tiff-jpeg"),
        pytest.param(saved(halves(), "AVIF", quality=95), id="avif"),
        pytest.param(saved(halves().convert("CMYK"), "JPEG", quality=95), id="cmyk-jpeg"),
        pytest.param(saved(halves().convert("CMYK"), "TIFF"), id="cmyk-tiff"),
        pytest.param(
            saved(halves().convert("CMYK"), "JPEG", quality=95, icc_profile=SRGB),
            id="cmyk-jpeg-with-a-profile-of-rgb",
        ),
        pytest.param(saved(halves().quantize(4), "PNG"), id="palette"),
        pytest.param(saved(halves((*RED, 255), (*BLUE, 255)), "WEBP", lossless=True),
                     id="alpha-of-an-opaque-image"),
    ],
)  # fmt: skip
def test_refused_images_become_jpeg_of_the_same_colors(data: bytes) -> None:
    part = sent(data)
    assert part.mime == "image/jpeg"
    image = opened(part.data)
    assert image.mode == "RGB"
    assert is_near(image.getpixel((4, 8)), RED)
    assert is_near(image.getpixel((27, 8)), BLUE)


CLEAR = (*BLUE, 0)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(halves((*RED, 255), CLEAR), "WEBP", lossless=True), id="webp"),
        pytest.param(saved(halves((*RED, 255), CLEAR), "GIF"), id="gif"),
        pytest.param(saved(halves((*RED, 255), CLEAR), "TIFF"), id="tiff"),
        pytest.param(saved(halves((*RED, 255), CLEAR).quantize(4), "PNG"), id="palette"),
    ],
)
def test_refused_images_with_transparent_pixels_become_png(data: bytes) -> None:
    part = sent(data)
    assert part.mime == "image/png"
    image = opened(part.data)
    assert image.mode == "RGBA"
    assert is_near(image.getpixel((4, 8)), (*RED, 255))
    assert image.getpixel((27, 8))[3] == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(picture("RGBA"), "PNG"), id="alpha"),
        pytest.param(saved(picture("LA"), "PNG"), id="gray-with-alpha"),
        pytest.param(saved(picture("1"), "PNG"), id="one-bit"),
        pytest.param(saved(picture(), "PNG", compress_level=0), id="not-compressed"),
        pytest.param(saved(picture(), "JPEG", progressive=True), id="progressive"),
        pytest.param(saved(picture(), "JPEG") + b"after the end", id="bytes-after-the-end"),
    ],
)
def test_accepted_images_are_not_touched(data: bytes) -> None:
    assert sent(data).data is data


def rotated(name: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(halves(), name, exif=exif, quality=95)


@pytest.mark.parametrize(
    ("orientation", "size", "red_at"),
    [(1, (32, 16), (4, 8)), (3, (32, 16), (27, 8)), (6, (16, 32), (8, 4)), (8, (16, 32), (8, 27))],
)
def test_the_orientation_is_applied_to_what_is_encoded_again(
    orientation: int, size: tuple[int, int], red_at: tuple[int, int]
) -> None:
    part = sent(rotated("WEBP", orientation))
    image = opened(part.data)
    assert image.size == size
    assert is_near(image.getpixel(red_at), RED)
    assert image.getexif().get(ORIENTATION) is None


def test_a_rotated_jpeg_passes_with_its_orientation() -> None:
    data = rotated("JPEG", 6)
    assert sent(data).data is data


def test_the_orientation_is_applied_when_an_image_is_reduced() -> None:
    part = sent(rotated("JPEG", 6), MediaSettings(max_image_side=16))
    assert (part.width, part.height) == (8, 16)
    assert is_near(opened(part.data).getpixel((4, 2)), RED, 30)


def test_metadata_is_removed() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera with a secret"
    data = saved(
        halves(), "WEBP", exif=exif, xmp=b"<x:secret/>",
        icc_profile=SRGB,
    )  # fmt: skip
    assert b"secret" in data
    assert b"ICCP" in data
    part = sent(data)
    assert b"secret" not in part.data
    assert opened(part.data).info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_damaged_metadata_does_not_matter() -> None:
    data = saved(halves(), "WEBP", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", icc_profile=b"no profile")
    assert is_near(opened(sent(data).data).getpixel((4, 8)), RED)


@pytest.mark.parametrize("name", ["WEBP", "PNG", "TIFF"])
def test_a_color_profile_is_applied(name: str) -> None:
    """In a profile with red and green exchanged, the stored green is meant to be seen as red."""
    profile = bytearray(SRGB)
    places = {}
    for index in range(int.from_bytes(profile[128:132], "big")):
        at = 132 + 12 * index
        places[bytes(profile[at : at + 4])] = at + 4
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    profile[red : red + 8], profile[green : green + 8] = (
        profile[green : green + 8],
        profile[red : red + 8],
    )
    words = bytes(profile).find("sRGB".encode("utf-16-be"))
    profile[words : words + 8] = "swap".encode("utf-16-be")
    green_image = halves((0, 255, 0), (0, 255, 0))
    if name == "PNG":
        green_image = green_image.quantize(4)
    data = saved(green_image, name, icc_profile=bytes(profile))
    assert is_near(opened(sent(data).data).getpixel((4, 8)), (255, 0, 0), 20)


def test_16_bits_become_8() -> None:
    rows = b"".join(b"\0" + bytes((0, 200)) * 4 + bytes((128, 0)) * 4 for _ in range(8))
    data = png_of(8, 8, png_chunk(b"IDAT", zlib.compress(rows)), depth=16)
    image = opened(sent(data).data)
    assert image.mode == "L"
    assert is_near(image.getpixel((1, 4)), (0,), 4)
    assert is_near(image.getpixel((6, 4)), (128,), 4)


def test_16_bits_per_color_become_8() -> None:
    pixel = bytes((220, 0, 30, 0, 30, 0))
    data = png_of(
        8, 8, png_chunk(b"IDAT", zlib.compress((b"\0" + pixel * 8) * 8)), depth=16, color=2
    )
    image = opened(sent(data).data)
    assert (image.mode, is_near(image.getpixel((4, 4)), RED)) == ("RGB", True)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bits_are_stretched_over_the_range_of_gray(kind: type) -> None:
    values = np.array([[-5, 0, 5, 5]] * 4, kind).repeat(4, 0).repeat(4, 1)
    image = opened(sent(saved(Image.fromarray(values), "TIFF")).data)
    assert [round(image.getpixel((x, 8)) / 16) for x in (1, 6, 11)] == [0, 8, 16]


def test_nan_is_black() -> None:
    values = np.full((16, 16), np.nan, np.float32)
    assert opened(sent(saved(Image.fromarray(values), "TIFF")).data).getextrema() == (0, 0)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_larger_images_are_reduced(name: str) -> None:
    part = sent(saved(picture(size=(400, 100)), name), MediaSettings(max_image_side=64))
    assert (part.mime, part.width, part.height) == ("image/jpeg", 64, 16)


def test_a_palette_is_reduced_by_its_colors() -> None:
    """Not by the numbers of its entries, between which there is nothing."""
    stripes = Image.new("RGB", (64, 64), RED)
    for x in range(0, 64, 2):
        stripes.paste(BLUE, (x, 0, x + 1, 64))
    part = sent(saved(stripes.quantize(4), "PNG"), MediaSettings(max_image_side=16))
    mean = tuple((one + two) // 2 for one, two in zip(RED, BLUE, strict=True))
    assert is_near(opened(part.data).getpixel((8, 8)), mean, 25)


def test_images_of_the_largest_side_are_not_touched() -> None:
    data = saved(picture(size=(64, 10)), "JPEG")
    assert sent(data, MediaSettings(max_image_side=64)).data is data


def test_a_file_always_gives_the_same_bytes() -> None:
    data = frames("WEBP")
    assert sent(data).data == sent(data).data


def test_a_heic_image_is_read_by_its_plugin() -> None:
    plugin = pytest.importorskip("pillow_heif")
    target = io.BytesIO()
    plugin.from_pillow(halves()).save(target, quality=95)
    image = opened(sent(target.getvalue()).data)
    assert is_near(image.getpixel((4, 8)), RED, 25)


def test_without_checks_an_accepted_image_is_not_opened() -> None:
    data = b"\xff\xd8\xff not an image"
    (part,) = prepare_media(data, MediaKind.IMAGE, MediaSettings(check=MediaCheck.OFF))
    assert (part.data, part.width, part.tokens) == (data, None, 258)
