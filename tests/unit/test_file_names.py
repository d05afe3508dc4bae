from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.file_names import native_name, readable_name

names = st.binary(min_size=1).filter(lambda name: b"\0" not in name)


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        (b"a.parquet", "a.parquet"),
        ("caf\u00e9.parquet".encode(), "caf\u00e9.parquet"),
        (b"caf\xe9.parquet", "caf\\xe9.parquet"),
        (b"\xff\\n", "\\xff\\x5cn"),
        (b"caf\\xe9", "caf\\x5cxe9"),
        (b"a\\b/\xff", "a\\b/\\xff"),
        (b"C:\\a", "C:\\a"),
    ],
)
def test_only_names_that_are_not_utf8_have_another_readable_form(
    name: bytes, readable: str
) -> None:
    assert readable_name(os.fsdecode(name)) == readable


@given(names | st.lists(st.sampled_from([b"\\", b"x", b"e9", b"\xe9", b"/", b"5c"])).map(b"".join))
def test_every_name_is_restored_from_its_readable_form(name: bytes) -> None:
    readable = readable_name(os.fsdecode(name))
    readable.encode()
    assert os.fsencode(native_name(readable)) == name


@given(names, names)
def test_different_names_have_different_readable_forms(one: bytes, two: bytes) -> None:
    same = readable_name(os.fsdecode(one)) == readable_name(os.fsdecode(two))
    assert same == (one == two)
