"""What the emulator sees in an image, and the vectors that it makes of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image
from support.drawings import SHAPES, drawing
from support.media_samples import picture, png_chunk, png_of, saved

from bulkembed.emulator.image_descriptors import UnreadableImage, describe
from bulkembed.emulator.media_vectors import image_vector
from bulkembed.emulator.word_vectors import words

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")


def text(line: str) -> np.ndarray:
    (ids,) = words().token_ids([line], 100)
    return words().means([ids])[0]


def vector(data: bytes) -> np.ndarray:
    return image_vector(describe(data))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_shape_is_recognized_at_any_angle_place_and_size(shape: str, form: str) -> None:
    for turn, radius, at in ((0.0, 60, (100, 100)), (0.5, 40, (60, 120)), (1.1, 30, (150, 50))):
        found = describe(drawing("blue", shape, turn=turn, radius=radius, at=at, form=form))
        assert max(found.shapes, key=lambda name: found.shapes[name]) == shape
        assert found.background == "white"


@pytest.mark.parametrize(
    ("colour", "name"),
    [*((one, one) for one in COLOURS), ("navy", "blue"), ("gold", "yellow"), ("gray", "gray"),
     ("saddlebrown", "brown"), ("teal", "turquoise"), ("lime", "green")],
)  # fmt: skip
def test_a_colour_has_its_name(colour: str, name: str) -> None:
    found = describe(drawing(colour, "circle"))
    assert found.colours[name] > 0.9


@pytest.mark.parametrize("background", ["white", "lightgray", "black"])
def test_words_find_the_image_that_they_describe(background: str) -> None:
    colours = [colour for colour in COLOURS if colour != background]
    drawn = list(itertools.product(colours, ["circle", "square", "triangle", "star"]))
    images = np.stack(
        [
            vector(drawing(*one, background=background, turn=0.2 * at))
            for at, one in enumerate(drawn)
        ]
    )
    for colour, shape in drawn:
        for line in (f"a {colour} {shape}", f"a photo of a {colour} {shape}"):
            assert drawn[int(np.argmax(images @ text(line)))] == (colour, shape)


def test_a_near_duplicate_is_nearer_than_any_other_image_of_the_same_figure() -> None:
    first = drawing("red", "circle", at=(80, 90))
    duplicates = [
        drawing("red", "circle", at=(80, 90), form="JPEG", quality=60),
        drawing("red", "circle", size=(400, 400), at=(160, 180), radius=120),
        drawing("red", "circle", at=(82, 90)),
    ]
    others = [
        drawing("red", "circle", at=(120, 90)),
        drawing("red", "circle", at=(80, 90), radius=30),
        drawing("crimson", "square", at=(80, 90)),
    ]
    near = [float(vector(first) @ vector(one)) for one in duplicates]
    far = [float(vector(first) @ vector(one)) for one in others]
    assert min(near) > 0.99
    assert min(near) > max(far) + 0.005


def test_a_photo_is_near_its_copies_and_not_near_another_of_the_same_colours() -> None:
    photo = Image.effect_noise((12, 9), 120).resize((400, 300), Image.Resampling.BICUBIC)
    first = vector(saved(photo, "PNG"))
    copies = [saved(photo, "JPEG", quality=40), saved(photo.resize((200, 150)), "PNG")]
    turned = saved(photo.rotate(180), "PNG")
    assert min(float(first @ vector(copy)) for copy in copies) > 0.999
    assert first @ vector(turned) < 0.9


def test_one_picture_in_two_lossless_files_has_one_vector() -> None:
    image = picture()
    assert vector(saved(image, "PNG")).tobytes() == vector(saved(image, "BMP")).tobytes()


def test_even_images_of_nearly_one_colour_differ() -> None:
    reds = [saved(Image.new("RGB", (9, 9), (200 + step, 20, 20)), "PNG") for step in range(4)]
    assert len({vector(one).tobytes() for one in reds}) == 4


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (50, 50), (255, 0, 0, 0))
    assert describe(saved(image, "PNG")).colours == {"white": 1.0}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_a_png_is_read(mode: str) -> None:
    image = picture("L").convert("I").point(lambda one: one * 257) if mode == "I;16" else picture()
    data = saved(image.convert(mode), "PNG")
    found = describe(data)
    assert found.is_odd == (mode in ("P", "I;16"))
    plain = describe(saved(picture("L").convert("RGB"), "PNG"))
    assert np.linalg.norm(found.tiny - plain.tiny) < 0.1


def test_cmyk_and_animated_images_are_odd() -> None:
    assert describe(saved(picture("CMYK"), "JPEG")).is_odd
    frames = {"save_all": True, "append_images": [picture("RGB").rotate(90)]}
    assert describe(saved(picture(), "PNG", **frames)).is_odd
    assert not describe(saved(picture(), "JPEG")).is_odd


def test_damaged_images_are_unreadable() -> None:
    whole = drawing("red", "circle", form="JPEG")
    for data in (whole[: len(whole) // 2], b"<html></html>", whole[:20], b""):
        with pytest.raises(UnreadableImage):
            describe(data)


def test_an_image_with_too_many_pixels_is_unreadable_without_decoding_it() -> None:
    bomb = png_of(9_000, 9_900, png_chunk(b"IDAT", b""))
    with pytest.raises(UnreadableImage, match="too many pixels"):
        describe(bomb)
