"""Image search: which images show what the words say, and which are copies of each other?

Drawings of coloured shapes, and photos that come with matplotlib and scikit-learn, are embedded as
images; the queries are embedded as texts with the same model. Smaller copies of some images, saved
again with another quality, are to be found by their vectors alone.
"""

from __future__ import annotations

import io
import itertools
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import cbook
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from examples.shared import Floats, bulkembed, folder_of, read, save, write

MODEL = ("--model", "gemini-embedding-2", "--dim", "768")
COLOURS = ("red", "orange", "green", "blue", "purple", "black")
SHAPES = ("circle", "square", "triangle", "star", "rectangle", "ring")
DRAWINGS_OF_EACH = 3
COPIES = 12
SAME = 0.995
"""The cosine from which two images count as copies of each other."""
SHOWN = ("a red circle", "a blue star", "a black ring", "an orange triangle")


def draw_shape(colour: str, shape: str, source: random.Random) -> Image.Image:
    """Draw a shape at a random place, size and angle."""
    image = Image.new("RGB", (240, 240), source.choice(["white", "whitesmoke", "lightyellow"]))
    x, y, radius = source.uniform(90, 150), source.uniform(90, 150), source.uniform(40, 75)
    turn = source.uniform(0, 2 * math.pi)
    pen = ImageDraw.Draw(image)
    if shape in ("circle", "ring"):
        box = (x - radius, y - radius, x + radius, y + radius)
        pen.ellipse(box, colour if shape == "circle" else None, colour, width=int(radius / 3))
        return image
    corners = _corners(shape)
    cos, sin = radius * math.cos(turn), radius * math.sin(turn)
    pen.polygon([(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in corners], colour)
    return image


def _corners(shape: str) -> list[tuple[float, float]]:
    if shape in ("square", "rectangle"):
        high = 0.8 if shape == "square" else 0.4
        return [(-0.8, -high), (0.8, -high), (0.8, high), (-0.8, high)]
    count = 3 if shape == "triangle" else 10
    steps = [2 * math.pi * step / count for step in range(count)]
    radii = [0.4 if shape == "star" and step % 2 else 1.0 for step in range(count)]
    return [(one * math.cos(at), one * math.sin(at)) for one, at in zip(radii, steps, strict=True)]


def photos() -> dict[str, Image.Image]:
    """Return the photos of two packages, reduced, by name."""
    samples = load_sample_images()
    found = {
        Path(path).stem: Image.fromarray(pixels)
        for path, pixels in zip(samples.filenames, samples.images, strict=True)
    }
    found["hopper"] = Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    for photo in found.values():
        photo.thumbnail((400, 400))
    return found


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """Return the file of an image."""
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


def make_images() -> list[dict[str, Any]]:
    """Return a row for each image: `copy_of` is the id of the image that it is a copy of."""
    source = random.Random(5)
    rows: list[dict[str, Any]] = []
    pictures: list[Image.Image] = []

    def add(name: str, image: Image.Image, form: str, copy_of: int | None = None) -> None:
        data = encoded(image, form, **({"quality": 50} if form == "JPEG" else {}))
        rows.append({"id": len(rows), "name": name, "copy_of": copy_of, "image": data})
        pictures.append(image)

    for colour, shape in itertools.product(COLOURS, SHAPES):
        for _ in range(DRAWINGS_OF_EACH):
            add(f"{colour} {shape}", draw_shape(colour, shape, source), "PNG")
    for name, photo in photos().items():
        add(name, photo, "PNG")
    last = range(len(rows) - 3, len(rows))
    for row in [*last, *source.sample(range(len(rows) - 3), COPIES - 3)]:
        image = pictures[row]
        small = image.resize((image.width * 2 // 3, image.height * 2 // 3))
        add(rows[row]["name"], small, "JPEG", copy_of=row)
    return rows


def search(queries: Floats, images: Floats) -> Any:
    """Return the places of the images by cosine, the nearest first: a row for each query."""
    return np.argsort(-(queries @ images.T), axis=1, kind="stable")


def copies(vectors: Floats) -> set[tuple[int, int]]:
    """Return the pairs of images whose cosine says that they are copies."""
    left, right = np.nonzero(np.triu(vectors @ vectors.T, 1) > SAME)
    return set(zip(left.tolist(), right.tolist(), strict=True))


def draw(
    rows: list[dict[str, Any]],
    ranks: dict[str, Any],
    cosines: dict[str, Any],
    pairs: list[tuple[int, int]],
) -> Figure:
    """Draw the first images of some queries, and below them pairs of copies."""
    figure = Figure(figsize=(7.6, 7.4), layout="constrained")
    grid = figure.subplots(len(SHOWN) + 1, 6)
    shown = [(query, ranks[query][column]) for query in SHOWN for column in range(6)]
    labels = [f"{cosines[query][image]:.2f}" for query, image in shown]
    places = [image for _, image in shown] + [image for pair in pairs[:3] for image in pair]
    labels += ["", "copy"] * 3
    for axes, image, label in zip(grid.flat, places, labels, strict=True):
        axes.imshow(Image.open(io.BytesIO(rows[image]["image"])).convert("RGB"))
        axes.set_title(label, fontsize=7, pad=2)
        axes.set_frame_on(False)
        axes.set_xticks([])
        axes.set_yticks([])
    for axes, words in zip(grid[:, 0], [*SHOWN, "copies"], strict=True):
        axes.set_ylabel(words, fontsize=8)
    figure.suptitle("The images nearest to some words, with their cosines", fontsize=10)
    return figure


def main() -> None:
    """Run the example."""
    folder = folder_of("image_search")
    rows = make_images()
    source = write(folder / "images.parquet", rows)
    words = [f"{'an' if colour == 'orange' else 'a'} {colour} {shape}"
             for colour, shape in itertools.product(COLOURS, SHAPES)]  # fmt: skip
    asked = write(folder / "words.parquet", ({"id": n, "text": one} for n, one in enumerate(words)))
    images = folder / "images"
    bulkembed(
        *("run", "--input", source, "--output", images, *MODEL),
        *("--content", "image:image", "--keep-columns", "name"),
    )
    bulkembed(
        *("run", "--input", asked, "--output", folder / "words", *MODEL),
        *("--task-type", "RETRIEVAL_QUERY"),
    )
    _, vectors, service = read(images)
    _, queries, _ = read(folder / "words")

    order = search(queries, vectors)
    names = np.array([row["name"] for row in rows])
    right = names[order] == np.array([one.split(" ", 1)[1] for one in words])[:, None]
    first = right[:, 0].mean()
    among = right[:, :DRAWINGS_OF_EACH].mean()
    print(f"\n{len(rows)} images, {len(words)} queries such as {words[0]!r}")
    print(f"vectors by {service}\n")
    print(f"first image is right        {first:.2f}")
    print(f"first {DRAWINGS_OF_EACH} images are right    {among:.2f}")
    print(f"chance                      {right.mean():.2f}")

    found = copies(vectors)
    known = {(row["copy_of"], row["id"]) for row in rows if row["copy_of"] is not None}
    print(f"\npairs with a cosine over {SAME}: {len(found)}, of which copies: {len(found & known)}")
    print(f"copies that were made: {len(known)}")
    places = {query: words.index(query) for query in SHOWN}
    ranks = {query: order[at] for query, at in places.items()}
    cosines = {query: vectors @ queries[at] for query, at in places.items()}
    save(draw(rows, ranks, cosines, sorted(found & known)[-3:]), "image_search", service)


if __name__ == "__main__":
    main()
