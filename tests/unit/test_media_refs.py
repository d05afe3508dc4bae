from __future__ import annotations

import base64
import contextlib
import io
import textwrap
import urllib.parse
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.media_samples import opened, picture, saved

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaKind
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.transforms.inputs.rows import BadValue
from bulkembed.transforms.media.media_refs import MediaRef, refs_of
from bulkembed.transforms.media.prepare_media import prepare_media

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(120))
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(200, 256)) * 2
WHERE = "column 'photo'"


def refs(value: Any, kind: MediaKind = MediaKind.IMAGE) -> tuple[MediaRef, ...]:
    return refs_of(value, kind=kind, where=WHERE)


def fault(value: Any, kind: MediaKind = MediaKind.IMAGE) -> BadValue:
    with pytest.raises(BadValue) as caught:
        refs(value, kind)
    return caught.value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(PNG, id="bytes"),
        pytest.param(bytearray(PNG), id="bytearray"),
        pytest.param(memoryview(PNG), id="memoryview"),
        pytest.param(pa.py_buffer(PNG), id="buffer"),
        pytest.param({"bytes": PNG, "path": "a.png"}, id="struct"),
        pytest.param({"bytes": PNG}, id="struct-without-path"),
        pytest.param(base64.b64encode(PNG).decode(), id="base64"),
        pytest.param(base64.urlsafe_b64encode(PNG).decode(), id="base64-for-urls"),
        pytest.param(base64.b64encode(PNG).decode().rstrip("="), id="base64-without-padding"),
        pytest.param(base64.encodebytes(PNG).decode(), id="base64-in-lines"),
        pytest.param(f"data:image/png;base64,{base64.b64encode(PNG).decode()}", id="data"),
        pytest.param(f" DATA:;base64,{base64.b64encode(PNG).decode()}\n", id="data-in-capitals"),
        pytest.param(f"data:image/png,{urllib.parse.quote_from_bytes(PNG)}", id="data-in-percent"),
        pytest.param(
            f"data:image/png;base64,{urllib.parse.quote(base64.b64encode(PNG))}",
            id="data-in-both",
        ),
    ],
)
def test_bytes_are_found_in_every_form(value: Any) -> None:
    assert refs(value) == (MediaRef(data=PNG, where=WHERE),)


@pytest.mark.parametrize(
    "text",
    [
        "photos/a.jpg",
        "/data/a.jpg",
        "a",
        "https://example.com/a.jpg?sig=x",
        "s3://bucket/a.jpg",
        "file:///data/a.jpg",
        "data/a.jpg",
        "/9j/photos/of/cats/and/dogs/in/the/garden/of/the/house.jpg",
        "/9j/4AAQSkZJRg",
        "a" * 200,
    ],
)
def test_other_text_is_a_path_or_a_uri(text: str) -> None:
    assert refs(text) == (MediaRef(uri=text, where=WHERE),)
    assert refs({"bytes": None, "path": text}) == (MediaRef(uri=text, where=WHERE),)


def test_the_bytes_of_a_jpeg_in_base64_are_no_path_although_they_begin_as_one() -> None:
    text = base64.b64encode(JPEG).decode()
    assert text.startswith("/9j/")
    assert refs(text) == (MediaRef(data=JPEG, where=WHERE),)


@pytest.mark.parametrize("value", [None, "", " \n", [], [None, None], {"bytes": None, "path": ""}])
def test_nothing_is_no_reference(value: Any) -> None:
    assert refs(value) == ()


def test_empty_bytes_are_a_file_which_is_found_to_be_damaged_later() -> None:
    assert refs(b"") == (MediaRef(data=b"", where=WHERE),)


def test_a_list_gives_its_items_in_order_and_leaves_null_out() -> None:
    assert refs(["a.jpg", None, PNG]) == (
        MediaRef(uri="a.jpg", where="item 1 of column 'photo'"),
        MediaRef(data=PNG, where="item 3 of column 'photo'"),
    )


@pytest.mark.parametrize(
    ("kind", "most", "words"),
    [(MediaKind.IMAGE, 6, "6 images"), (MediaKind.AUDIO, 1, "1 audio"), (MediaKind.PDF, 1, "pdf")],
)
def test_a_list_that_is_too_long_is_a_fault(kind: MediaKind, most: int, words: str) -> None:
    assert len(refs(["a"] * most + [None], kind)) == most
    error = fault(["a"] * (most + 1), kind)
    assert error.code is DeadCode.TOO_LARGE
    assert words in str(error)
    assert WHERE in str(error)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        pytest.param(5, DeadCode.UNSUPPORTED_TYPE, id="integer"),
        pytest.param(True, DeadCode.UNSUPPORTED_TYPE, id="boolean"),
        pytest.param({"url": "a"}, DeadCode.UNSUPPORTED_TYPE, id="another-object"),
        pytest.param({"bytes": 5}, DeadCode.UNSUPPORTED_TYPE, id="bytes-that-are-none"),
        pytest.param([["a"]], DeadCode.UNSUPPORTED_TYPE, id="nested-list"),
        pytest.param("data:image/png;base64", DeadCode.CORRUPT_MEDIA, id="no-comma"),
        pytest.param("data:image/png;base64,####", DeadCode.CORRUPT_MEDIA, id="no-base64"),
        pytest.param("data:image/png;base64,AAAAA", DeadCode.CORRUPT_MEDIA, id="half-a-byte"),
    ],
)
def test_a_value_that_is_no_media_is_a_fault_that_names_the_column(
    value: Any, code: DeadCode
) -> None:
    error = fault(value)
    assert error.code is code
    assert WHERE in str(error)


def test_base64_of_media_that_is_cut_within_a_byte_is_a_fault() -> None:
    assert fault(base64.b64encode(PNG).decode()[:81]).code is DeadCode.CORRUPT_MEDIA


@given(st.binary(max_size=300), st.booleans(), st.integers(1, 100))
def test_a_data_uri_gives_back_any_bytes(data: bytes, for_urls: bool, width: int) -> None:
    encoded = (base64.urlsafe_b64encode if for_urls else base64.b64encode)(data).decode()
    wrapped = "\n".join(textwrap.wrap(encoded, width))
    assert refs(f"data:application/octet-stream;base64,{wrapped}")[0].data == data


@given(st.sampled_from([PNG[:8], JPEG[:12], b"GIF89a", b"%PDF-1.7\n"]), st.binary(min_size=30))
def test_base64_gives_back_any_file_that_begins_as_media(start: bytes, rest: bytes) -> None:
    assert refs(base64.b64encode(start + rest).decode())[0].data == start + rest


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda items: st.lists(items, max_size=8) | st.dictionaries(st.text(), items, max_size=3),
)


@given(JSON | st.fixed_dictionaries({"bytes": JSON, "path": JSON}), st.sampled_from(MediaKind))
def test_any_value_gives_references_or_a_fault(value: Any, kind: MediaKind) -> None:
    found: tuple[MediaRef, ...] = ()
    with contextlib.suppress(BadValue):
        found = refs_of(value, kind=kind, where=WHERE)
    assert all((ref.data is None) != (ref.uri is None) for ref in found)
    assert all(ref.where.endswith(WHERE) for ref in found)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "CMYK", "I;16", "F", "YCbCr"])
def test_an_image_of_pillow_is_sent_as_a_png_file_that_the_model_accepts(mode: str) -> None:
    plain = picture()
    image = plain.convert("L").convert(mode) if mode in ("I;16", "F") else plain.convert(mode)
    (ref,) = refs(image)
    assert ref.data is not None
    (sent,) = prepare_media(ref.data, MediaKind.IMAGE, MediaSettings())
    assert (sent.data, sent.mime) == (ref.data, "image/png")
    assert image.mode == mode  # The caller's image stays as it is.
    if mode == "RGB":
        assert opened(sent.data).tobytes() == image.tobytes()


def test_an_image_of_pillow_is_sent_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.open(io.BytesIO(saved(picture(size=(40, 30)), "JPEG", exif=exif)))
    (ref,) = refs(turned)
    assert ref.data is not None
    assert opened(ref.data).size == (30, 40)


def test_an_image_of_pillow_that_cannot_be_decoded_is_corrupt() -> None:
    half = saved(picture(size=(400, 300)), "JPEG")[:-500]
    error = fault(Image.open(io.BytesIO(half)))
    assert error.code is DeadCode.CORRUPT_MEDIA
    assert str(error).startswith("column 'photo': an image that cannot be decoded")
