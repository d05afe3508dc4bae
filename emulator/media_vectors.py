"""Vectors of media in the space of the words, near the words for what the media shows."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from bulkembed.emulator.image_descriptors import ImageDescriptor
from bulkembed.emulator.word_vectors import Doubles, orthonormal, seed, words

_LOOK = 0.5
_LOOK_OF_SCENE = 0.8
"""The length of an image's own part, with and without a figure; that of its words is 1."""
_OWN = 1.0
"""The same for files that are not understood, beside the word for their kind."""
_OCR_OWN = 0.05
_BACKGROUND = 0.15
"""The weight of the colour around a figure; the figure's own has 1."""
_LATER = 0.02
"""How much less each further part of a content counts: their order makes a difference."""


def unit(vector: Doubles) -> Doubles:
    """Return a vector with length 1; a null vector as the first axis."""
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm > 1e-9 else np.eye(1, len(vector))[0]


def text_vector(ids: Sequence[int]) -> Doubles:
    """Return the vector of a tokenized text."""
    return np.asarray(words().means([ids])[0])


@functools.cache
def _word(word: str) -> Doubles:
    """Return the sum of a word's vectors, as it counts in a text; do not change it."""
    (ids,) = words().token_ids([word], 100)
    return np.asarray(words().sums([ids])[0], dtype=np.float64)


def _phrase(weights: Mapping[str, float]) -> Doubles:
    total = np.zeros(words().dim)
    for word, weight in weights.items():
        total += weight * _word(word)
    return unit(total)


def image_vector(image: ImageDescriptor) -> Doubles:
    """Return the vector of an image: the words for its colours and its shape, and its own look.

    Images that look alike have nearly the same vector.
    """
    weights = dict(image.colours) | image.shapes
    if image.background:
        weights[image.background] = weights.get(image.background, 0.0) + _BACKGROUND
    look = image.tiny @ _look_rows(len(image.tiny))
    look /= np.linalg.norm(look) + 0.1
    return unit(_phrase(weights) + (_LOOK if image.shapes else _LOOK_OF_SCENE) * look)


@functools.cache
def _look_rows(count: int) -> Doubles:
    return orthonormal(words().dim, count, seed("look")).T


def file_vector(data: bytes, word: str, **facts: object) -> Doubles:
    """Return the vector of a file that is not understood: the word for its kind, and chance.

    Equal bytes with equal facts have equal vectors; others are about as far apart as unrelated
    texts that share a word.
    """
    return unit(_phrase({word: 1.0}) + _OWN * _chance(data, facts))


def document_vector(data: bytes, text: str, *, ocr: bool) -> Doubles:
    """Return the vector of a PDF file: of its text, or of its bytes if it has none."""
    if not text.strip():
        return file_vector(data, "document", ocr=ocr)
    (ids,) = words().token_ids([text], 8192)
    return unit(text_vector(ids) + _OCR_OWN * _chance(data, {"ocr": ocr}))


def _chance(data: bytes, facts: Mapping[str, object]) -> Doubles:
    digest = hashlib.sha256(repr(sorted(facts.items())).encode() + b"\0" + data).digest()
    source = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    return unit(source.standard_normal(words().dim))


def fuse(parts: Sequence[tuple[Doubles, float]]) -> Doubles:
    """Return the one vector of a content: of its parts in order, each with the share that counts.

    The share is below 1 for a part that is cut, and 0 for one beyond the model's limit.
    """
    total = np.zeros(words().dim)
    for place, (vector, share) in enumerate(parts):
        total += share * (1 - _LATER * place) * vector
    return unit(total)
