"""Images of coloured figures."""

from __future__ import annotations

import io
import math
from typing import Any

from PIL import Image, ImageDraw

SHAPES = ("circle", "oval", "ring", "square", "rectangle", "triangle", "star")


def drawing(
    colour: str,
    shape: str,
    *,
    background: str = "white",
    size: tuple[int, int] = (200, 200),
    at: tuple[float, float] | None = None,
    radius: float = 60,
    turn: float = 0.0,
    form: str = "PNG",
    **options: Any,
) -> bytes:
    """Return the file of an image with one figure; `turn` is its angle in radians."""
    image = Image.new("RGB", size, background)
    draw = ImageDraw.Draw(image)
    x, y = at or (size[0] / 2, size[1] / 2)
    cos, sin = radius * math.cos(turn), radius * math.sin(turn)
    corners = [(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in _corners(shape)]
    draw.polygon(corners, fill=colour)
    if shape == "ring":
        inner = 0.7 * radius
        draw.ellipse([x - inner, y - inner, x + inner, y + inner], fill=background)
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


def _corners(shape: str) -> list[tuple[float, float]]:
    if shape in ("square", "rectangle"):
        high, wide = (0.8, 0.8) if shape == "square" else (0.5, 1.0)
        return [(-wide, -high), (wide, -high), (wide, high), (-wide, high)]
    count = {"triangle": 3, "star": 10}.get(shape, 72)
    radii = [0.382 if shape == "star" and step % 2 else 1.0 for step in range(count)]
    flat = 0.5 if shape == "oval" else 1.0
    angles = [2 * math.pi * step / count for step in range(count)]
    return [
        (one * math.cos(angle), flat * one * math.sin(angle))
        for one, angle in zip(radii, angles, strict=True)
    ]
