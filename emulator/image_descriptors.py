"""A small description of an image: its colours, its shape, and a tiny copy of it."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Names = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_SIDE = 160
"""The longer side, in pixels, of the copy that colours and shape are read from."""
_TINY = 8
_MEAN = 0.15
"""The weight of the mean colour beside the tiny copy."""
_TURN = 60
_MAX_PIXELS = 89_000_000
"""Pillow warns of larger images, and refuses some."""
_GRID = 4096.0
"""Descriptions are whole multiples of 1 / _GRID, so that rounding in a decoder changes little."""
COLOURS = (
    "black", "white", "gray", "red", "orange", "brown", "yellow", "green", "turquoise", "blue",
    "purple", "pink",
)  # fmt: skip
_SHAPES: dict[str, tuple[float, float, float, float]] = {
    "circle": (1.0, 0.0, 0.0, 0.0),
    "square": (0.637, 0.0, 0.115, 0.0),
    "triangle": (0.413, 0.255, 0.0, 0.0),
    "star": (0.357, 0.0, 0.0, 0.26),
}
"""Of each shape: its area over that of the circle around it, and how strongly the distance of its
edge from its centre varies 3, 4 and 5 times in a turn."""


class UnreadableImage(ValueError):
    """Raised for bytes that are no image, or a damaged one."""


@dataclasses.dataclass(frozen=True, slots=True)
class ImageDescriptor:
    """What an image looks like. Shares and weights are from 0 to 1."""

    colours: dict[str, float]
    """The share of each colour in the figure, or in the whole image if it has none."""
    background: str
    """The colour around the figure; "" if there is no figure."""
    shapes: dict[str, float]
    """The weight of each shape of the figure; empty if there is no figure."""
    tiny: Numbers
    """8 by 8 pixels without their mean, then the mean colour with less weight."""
    is_odd: bool
    """It has CMYK, 16 bits or a palette, or is animated."""


def describe(data: bytes) -> ImageDescriptor:
    """Decode an image, and describe it.

    Raises:
        UnreadableImage: it cannot be decoded.
    """
    pixels, tiny, is_odd = _decode(data)
    figure = _figure(pixels)
    names = _colour_names(pixels[::2, ::2])  # Every fourth pixel is enough for shares.
    inside = None if figure is None else figure[::2, ::2]
    if figure is None or inside is None or not inside.any():
        return ImageDescriptor(_shares(names), "", {}, tiny, is_odd)
    around = _shares(names[~inside])
    background = max(around, key=lambda name: around[name])
    return ImageDescriptor(_shares(names[inside]), background, _shapes(figure), tiny, is_odd)


def _decode(data: bytes) -> tuple[Numbers, Numbers, bool]:
    """Return a small copy (rows, columns, 3), the tiny one, and whether the image is odd."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise UnreadableImage("too many pixels")
            deep = image.format == "PNG" and data[24:25] == b"\x10"
            is_odd = deep or image.mode not in ("1", "L", "LA", "RGB", "RGBA")
            is_odd = is_odd or getattr(image, "n_frames", 1) > 1
            image.draft(None, (_SIDE, _SIDE))  # A JPEG is decoded at a fraction of its size.
            image.load()
            colour = _opaque(image)
            colour.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=None)
            small = np.asarray(colour, dtype=np.float64) / 255
            tiny = np.asarray(colour.resize((_TINY, _TINY), Image.Resampling.BOX), dtype=np.float64)
    except UnreadableImage:
        raise
    except Exception as error:  # Decoders raise errors of many kinds.
        if isinstance(error, ImportError | MemoryError):
            raise
        raise UnreadableImage(str(error)) from error
    tiny = np.rint(tiny / 255 * _GRID) / _GRID
    mean = tiny.mean(axis=(0, 1))
    return small, np.concatenate([((tiny - mean) / _TINY).ravel(), _MEAN * (mean - 0.5)]), is_odd


def _opaque(image: Any) -> Any:
    """Return an image as RGB, on white where it is transparent."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    whole = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")


def _colour_names(pixels: Numbers) -> Names:
    """Return the index in COLOURS of each pixel's colour."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    value, least = pixels.max(axis=-1), pixels.min(axis=-1)
    spread = value - least
    vivid = spread / np.maximum(value, 1e-9)
    safe = np.maximum(spread, 1e-9)
    hue = np.select(
        [value == red, value == green],
        [(green - blue) / safe % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    ) * 60  # fmt: skip
    is_grey = (vivid < 0.15) | (value < 0.15)
    is_pale = (vivid < 0.5) & (value > 0.8)
    tests = [
        (is_grey & (value < 0.25), "black"),
        (is_grey & (value > 0.85), "white"),
        (is_grey, "gray"),
        (is_pale & ((hue >= 330) | (hue < 15)), "pink"),
        ((hue >= 345) | (hue < 15), "red"),
        ((hue < 45) & (value < 0.65), "brown"),
        (hue < 42, "orange"),
        (hue < 70, "yellow"),
        (hue < 165, "green"),
        (hue < 195, "turquoise"),
        (hue < 255, "blue"),
        ((hue < 290) | (value < 0.75), "purple"),
    ]
    found = np.select(
        [test for test, _ in tests], [COLOURS.index(name) for _, name in tests],
        COLOURS.index("pink"),
    )  # fmt: skip
    return np.asarray(found)


def _shares(names: Names) -> dict[str, float]:
    counts = np.bincount(names.ravel(), minlength=len(COLOURS))
    return {COLOURS[at]: float(counts[at] / names.size) for at in np.flatnonzero(counts)}


def _figure(pixels: Numbers) -> Mask | None:
    """Return which pixels are not background; None if no even background is around a figure."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = np.median(edge, axis=0)
    if np.mean(np.linalg.norm(edge - background, axis=1) < 0.1) < 0.8:
        return None
    figure = _without_specks(np.linalg.norm(pixels - background, axis=2) > 0.15)
    return figure if 0.005 <= figure.mean() <= 0.95 else None


def _without_specks(mask: Mask) -> Mask:
    """Return the pixels that have most of their nine neighbours: a JPEG has specks at edges."""
    rows, columns = mask.shape
    wide = np.pad(mask, 1).astype(np.int64)
    near = [wide[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    return np.asarray(sum(near) >= 5)


def _shapes(figure: Mask) -> dict[str, float]:
    """Return the weights of the shapes that a figure resembles; they do not depend on its angle."""
    points = np.argwhere(figure).astype(np.float64)
    points -= points.mean(axis=0)
    spreads, axes = np.linalg.eigh(points.T @ points / len(points) + np.eye(2) / 12)
    elongation = float(np.sqrt(spreads[1] / spreads[0]))
    even = points @ axes / np.sqrt(spreads)  # As wide as high: an oval becomes a circle.
    radius, angle = np.hypot(*even.T), np.arctan2(even[:, 1], even[:, 0])
    if elongation < 1.3 and radius.min() > 0.5:
        return {"ring": 1.0}
    edge = np.zeros(_TURN)
    np.maximum.at(edge, ((angle / (2 * np.pi) + 0.5) * _TURN).astype(int) % _TURN, radius)
    known = np.flatnonzero(edge)
    edge = np.interp(np.arange(_TURN), known, edge[known], period=_TURN)
    waves = np.abs(np.fft.rfft(edge)) * 2 / edge.sum()
    fill = np.pi * np.mean(edge**2) / (np.pi * edge.max() ** 2)
    seen = np.array([fill, *waves[3:6]])
    distances = {name: np.linalg.norm(seen - shape) for name, shape in _SHAPES.items()}
    weights = {
        name: float(np.exp(-((distance / 0.12) ** 2))) for name, distance in distances.items()
    }
    total = sum(weights.values()) + 1e-3
    long = {"circle": "oval", "square": "rectangle"} if elongation > 1.25 else {}
    return {long.get(name, name): weight / total for name, weight in weights.items()}
