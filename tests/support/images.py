"""Small images for tests, and the forms in which datasets keep them."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pyarrow as pa
from PIL import Image

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(number: int, side: int = 24, form: str | None = None) -> bytes:
    """An image of two colours, different for each number; JPEG and PNG in turn."""
    blue = (number + number // 256 * 29) % 256
    image = Image.new("RGB", (side, side), (number * 37 % 256, number * 91 % 256, blue))
    image.paste((255 - number % 256, number * 53 % 256, 60), (0, 0, side // 2, 1 + number % side))
    data = io.BytesIO()
    image.save(data, form or ("PNG" if number % 2 else "JPEG"))
    return data.getvalue()


def pictures(count: int) -> list[bytes]:
    """Some different images."""
    return [picture(number) for number in range(count)]


def column_forms(images: list[bytes], folder: Path) -> dict[str, pa.Array]:
    """The same images in each form of a column; files are in `img/` of the folder."""
    (folder / "img").mkdir(parents=True)
    names = [f"img/{number}.jpg" for number in range(len(images))]
    for name, data in zip(names, images, strict=True):
        (folder / name).write_bytes(data)
    in_base64 = [base64.b64encode(data).decode() for data in images]
    return {
        "binary": pa.array(images, pa.binary()),
        "large_binary": pa.array(images, pa.large_binary()),
        "view": pa.array(images, pa.binary_view()),
        "dictionary": pa.array(images, pa.binary()).dictionary_encode(),
        "struct": pa.array([{"bytes": one, "path": "x"} for one in images], STRUCT),
        "struct of paths": pa.array([{"bytes": None, "path": one} for one in names], STRUCT),
        "path": pa.array(names),
        "uri": pa.array([(folder / name).as_uri() for name in names]),
        "data uri": pa.array([f"data:image/png;base64,{one}" for one in in_base64]),
        "base64": pa.array(in_base64),
        "list": pa.array([[one] for one in images], pa.list_(pa.binary())),
    }
