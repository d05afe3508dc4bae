"""One entry prepares media: what passes, what is transcoded, what is a dead letter."""

from __future__ import annotations

import pytest

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFault, MediaKind, MediaSettings
from bulkembed.transforms.media.prepare_media import prepare_media
from tests.support.media_samples import opened, picture, saved

SETTINGS = MediaSettings()


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_accepted_images_pass_byte_for_byte(name: str, mode: str) -> None:
    data = saved(picture(mode), name)
    (sent,) = prepare_media(data, MediaKind.IMAGE, SETTINGS)
    assert sent.data is data
    assert (sent.mime, sent.width, sent.height, sent.tokens) == (
        f"image/{name.lower()}", 40, 30, 258,
    )  # fmt: skip
    assert sent.start is sent.end is None


@pytest.mark.parametrize("name", ["WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_other_images_become_jpeg(name: str) -> None:
    if name == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    (sent,) = prepare_media(saved(picture(), name), MediaKind.IMAGE, SETTINGS)
    image = opened(sent.data)
    assert (sent.mime, image.format, image.mode) == ("image/jpeg", "JPEG", "RGB")
    left, right = image.getpixel((1, 15)), image.getpixel((38, 15))
    assert left[0] < 40 < 200 < right[0]


def test_a_truncated_jpeg_is_a_dead_letter() -> None:
    with pytest.raises(MediaFault) as caught:
        prepare_media(saved(picture(), "JPEG")[:-9], MediaKind.IMAGE, SETTINGS)
    assert caught.value.code is DeadCode.CORRUPT_MEDIA
