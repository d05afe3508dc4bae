"""Hashes of texts, and the texts that several units share."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.hashing import HASH_BYTES, among, keys, text_hash

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TITLE = st.none() | TEXT


@given(TITLE, TEXT)
def test_the_hash_is_blake2b_over_title_and_text_after_their_lengths(
    title: str | None, text: str
) -> None:
    first, second = (title or "").encode(), text.encode()
    data = len(first).to_bytes(8, "little") + first + len(second).to_bytes(8, "little") + second
    assert text_hash(title, text) == hashlib.blake2b(data, digest_size=16).digest()


@given(TITLE, TEXT, TITLE, TEXT)
def test_two_texts_share_a_hash_only_if_title_and_text_are_equal(
    title: str | None, text: str, other_title: str | None, other_text: str
) -> None:
    same = (title or "", text) == (other_title or "", other_text)
    assert (text_hash(title, text) == text_hash(other_title, other_text)) is same


def test_moving_a_letter_from_the_title_to_the_text_changes_the_hash() -> None:
    assert text_hash("ab", "c") != text_hash("a", "bc")


def test_the_hash_is_the_same_in_all_versions() -> None:
    found = text_hash("Titel", "Grüße")
    assert len(found) == HASH_BYTES == 16
    assert found.hex() == "fea753090eb403a6d03d282810c6b078"


def test_a_key_is_the_beginning_of_the_hash() -> None:
    name = text_hash("title", "text")
    assert keys([name, bytes(16)]).tolist() == [int.from_bytes(name[:8], "little"), 0]


@given(st.lists(st.integers(0, 20)), st.sets(st.integers(0, 20)))
def test_keys_are_found_among_others(every: list[int], some: set[int]) -> None:
    found = among(np.array(every, np.uint64), np.array(sorted(some), np.uint64))
    assert found.tolist() == [key in some for key in every]
