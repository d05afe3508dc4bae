"""Embed texts by static word vectors that are rotated into each model's space."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import pathlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.models import ModelSpec

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_TASK_ANGLE = 0.2
"""The angle, in radians, between a text's vectors without and with a task. cos 0.2 is 0.98: a
query stays near its document, and no two tasks give the same vector."""
_GRID = 2.0**20


def seed(*words: str) -> int:
    """Return a seed that depends on some words only."""
    return int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:8], "little")


def orthonormal(rows: int, columns: int, source: int) -> Doubles:
    """Return a matrix with orthonormal columns; equal sources give equal matrices."""
    normal = np.random.default_rng(source).standard_normal((rows, columns))
    return np.linalg.qr(normal)[0]


class Words:
    """The word vectors and the tokenizer of the package wordllama."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("wordllama")
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError("wordllama is not installed. Run pip install 'bulkembed[emulator]'.")
        root = pathlib.Path(next(iter(spec.submodule_search_locations)))
        self._tokenizer = Tokenizer.from_file(str(root / _TOKENIZER))
        self._vectors = load_file(root / _WEIGHTS)["embedding.weight"].astype(np.float32)
        self._longest_token = max(map(len, self._tokenizer.get_vocab()))

    @property
    def dim(self) -> int:
        """The dimensions of a word vector."""
        return int(self._vectors.shape[1])

    def token_ids(self, texts: Sequence[str], limit: int) -> list[list[int]]:
        """Return the tokens of each text; of a long one, enough to exceed `limit`.

        The rest of a text is ignored, so that a text of megabytes takes no more time.
        """
        enough = (limit + 1) * self._longest_token
        encoded = self._tokenizer.encode_batch_fast(
            [text[:enough] for text in texts], add_special_tokens=False
        )
        return [one.ids for one in encoded]

    def count(self, texts: Sequence[str]) -> int:
        """Return the number of tokens of all texts."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return sum(len(one.ids) for one in encoded)

    def sums(self, ids: Sequence[Sequence[int]]) -> Floats:
        """Return the sum of each text's word vectors."""
        return np.stack([self._vectors.take(one or [0], axis=0).sum(axis=0) for one in ids])

    def means(self, ids: Sequence[Sequence[int]]) -> Doubles:
        """Return the mean of each text's word vectors with length 1; never zero."""
        sums = self.sums(ids)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        for row in np.flatnonzero(norms[:, 0] < 1e-6):
            sums[row], norms[row] = self._vectors[0], np.linalg.norm(self._vectors[0])
        return np.asarray(sums / norms, dtype=np.float64)


@functools.cache
def words() -> Words:
    """Return the word vectors, loaded once per process."""
    return Words()


@functools.lru_cache(maxsize=16)
def _projection(model: str, dim: int, width: int) -> Doubles:
    """Return the map from the words' space to the model's; it keeps cosines (orthonormal rows)."""
    rows = orthonormal(max(dim, width), min(dim, width), seed("model", model))
    return _on_grid(rows.T if dim >= width else rows)


@functools.lru_cache(maxsize=64)
def _task_rotation(model: str, task: str, width: int) -> Doubles:
    """Return a rotation by a small angle, in planes that depend on the task.

    A rotation keeps the cosines between texts of one task. A small one keeps texts of different
    tasks comparable.
    """
    basis = orthonormal(width, width, seed("task", model, task))
    inner = np.eye(width) * np.cos(_TASK_ANGLE)
    even = np.arange(0, width - 1, 2)
    inner[even, even + 1] = np.sin(_TASK_ANGLE)
    inner[even + 1, even] = -np.sin(_TASK_ANGLE)
    return _on_grid(basis @ inner @ basis.T)


def _on_grid(values: Doubles) -> Doubles:
    """Return the values as whole numbers, `_GRID` for 1.

    Sums of their products are exact in a double, in any order of addition. So a text's vector does
    not depend on the other texts of the call.
    """
    return np.ascontiguousarray(np.rint(values * _GRID))


def embed(spec: ModelSpec, dim: int, tasks: Sequence[str], ids: Sequence[Sequence[int]]) -> Floats:
    """Return the model's vectors of tokenized texts, one row each, in their order.

    A shorter vector is the first part of the full one. It gets length 1 only if the model does so.
    """
    return project(spec, dim, tasks, words().means(ids))


def project(spec: ModelSpec, dim: int, tasks: Sequence[str], means: Doubles) -> Floats:
    """Return the model's vectors of contents whose vectors in the space of the words are known."""
    means = _on_grid(means)
    turned = np.empty_like(means)
    for task in set(tasks):
        rows = [row for row, one in enumerate(tasks) if one == task]
        turned[rows] = np.rint(
            means[rows] @ _task_rotation(spec.name, task, means.shape[1]) / _GRID
        )
    full = _projection(spec.name, spec.default_dim, means.shape[1])
    vectors = turned @ full[:, :dim] / _GRID**2
    if spec.gives_unit_length(dim):
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors.astype(np.float32)
