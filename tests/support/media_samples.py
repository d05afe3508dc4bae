"""Small media files, made when they are needed."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Return an image of a gradient, dark on the left and bright on the right."""
    gray = Image.linear_gradient("L").rotate(90).resize(size)
    return gray.convert("RGB").convert(mode)


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    """Return an image as the bytes of a file; `name` is Pillow's: JPEG, PNG, GIF, WEBP."""
    target = io.BytesIO()
    image.save(target, name, **options)
    return target.getvalue()


def opened(data: bytes) -> Image.Image:
    """Return the decoded image of a file, without the library under test."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
