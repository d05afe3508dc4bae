"""Estimate the tokens of a text from its bytes, corrected by the service's counts.

Source of the priors: about 4 characters per token in English, 2.5 in code and Devanagari, 1 in
Chinese and Korean; UTF-8 bytes are an upper bound (public threads, 2026-11).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable

import numpy as np

Features = tuple[int, ...]
"""Counts that add up: the features of a call are the sum of those of its texts.

They count texts, lower-case letters, upper-case letters, digits, single spaces, pairs of spaces,
other white space and controls, ASCII punctuation, then characters by the length and range of their
UTF-8 code: two bytes, three (Indic, Thai, Vietnamese), three (signs), three (Chinese, Japanese,
Korean), four.
"""

_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()
_DIGITS = b"0123456789"
_CONTROLS = bytes((*range(32), 127))
_NOT_LEADS = bytes(range(0xC0))
_TWO = bytes(range(0xC0, 0xE0))
_INDIC = b"\xe0\xe1"
_SIGNS = b"\xe2"
_EAST = bytes(range(0xE3, 0xF0))

MAX_TOKEN_BYTES = 128
"""No token is longer. Source: the longest tokens of public vocabularies repeat one character: 31
spaces in Gemma's, 128 in those of OpenAI (2026-11)."""
_PIECE = re.compile(r"\s+|\S+")

_PRIOR = np.array([0.5, 0.15, 0.4, 0.9, 0.5, 0.1, 0.5, 0.75, 0.5, 0.5, 1.0, 1.0, 2.0])
_BYTES = np.array([0, 1, 1, 1, 1, 2, 1, 1, 2, 3, 3, 3, 4])
NO_FEATURES: Features = (0,) * len(_PRIOR)
_PRIOR_SPREAD = 0.5
_NOISE = 0.03
_HUBER = 0.15
_KEEP = 0.995
_SWEEPS = 4
_RISE, _FALL = 0.1, 0.03
"""How fast the usual error follows larger and smaller ones: too small a margin causes 429s."""


def features(text: str) -> Features:
    """Return the features of a text: 1 µs for a short one, 3 to 8 ms for 500,000 characters."""
    data = text.encode("utf-8", "surrogatepass")
    pairs = data.count(b"  ")
    spaces = data.count(b" ")
    rest = data.translate(None, _LOWER)
    lower = len(data) - len(rest)
    upper_off = rest.translate(None, _UPPER)
    digits_off = upper_off.translate(None, _DIGITS)
    plain = digits_off.translate(None, _CONTROLS)
    punct = len(plain) - spaces
    high: tuple[int, ...] = (0, 0, 0, 0, 0)
    if len(data) != len(text):
        high = _high(plain.translate(None, _NOT_LEADS))
        punct -= sum(map(operator.mul, (2, 3, 3, 3, 4), high))
    return (
        1,
        lower,
        len(rest) - len(upper_off),
        len(upper_off) - len(digits_off),
        spaces - 2 * pairs,
        pairs,
        len(digits_off) - len(plain),
        punct,
        *high,
    )


def _high(leads: bytes) -> tuple[int, ...]:
    two = leads.translate(None, _TWO)
    indic = two.translate(None, _INDIC)
    signs = indic.translate(None, _SIGNS)
    four = signs.translate(None, _EAST)
    sizes = (len(leads), len(two), len(indic), len(signs), len(four))
    return (*map(operator.sub, sizes, sizes[1:]), len(four))


def sum_features(many: Iterable[Features]) -> Features:
    """Return the features of a call: the sum of those of its texts."""
    return tuple(map(sum, zip(NO_FEATURES, *many, strict=True)))


def utf8_bytes(text: str) -> int:
    """Return the size of a text in UTF-8, which is an upper bound of its tokens."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def readable_part(text: str, max_tokens: int) -> str:
    """Return the beginning of a text that includes everything a model of `max_tokens` can read.

    A token has at most MAX_TOKEN_BYTES bytes, and white space counts as nothing, because some
    tokenizers fold it. So the part is longer than what is read, never shorter.
    """
    remaining = max_tokens * MAX_TOKEN_BYTES
    if 4 * len(text) <= remaining or utf8_bytes(text) <= remaining:
        return text
    for piece in _PIECE.finditer(text):
        size = 1 if piece[0].isspace() else utf8_bytes(piece[0])
        if size > remaining:
            inside = piece[0].encode("utf-8", "surrogatepass")[:remaining]
            return text[: piece.start() + len(inside.decode("utf-8", "ignore"))]
        remaining -= size
    return text


class TokenEstimator:
    """Estimates tokens, better with each answered call.

    The method is recursive least squares on the features of whole calls, with a prior that loses
    influence, weights that are never negative, and slow forgetting. Errors are relative. An answer
    that is far off has less weight, so a few of them (truncated texts) do no harm.

    Args:
        max_tokens: the model's maximum; no text is estimated above it.
    """

    def __init__(self, max_tokens: int | None = None) -> None:
        self.max_tokens = max_tokens
        self.calls = 0
        self.error = 0.25
        """The relative error of a call, smoothed."""
        self._texts = 1.0
        """How many texts the calls of that error have, smoothed."""
        self._weights = _PRIOR.copy()
        self._list: list[float] = self._weights.tolist()
        self._prior = np.diag((_PRIOR_SPREAD * _PRIOR) ** -2.0)
        self._seen = np.zeros_like(self._prior)
        self._seen_right = np.zeros_like(_PRIOR)

    def estimate(self, text: str) -> int:
        """Return the tokens of a text: at least 1, at most `max_tokens`."""
        tokens = self.estimate_call(features(text))
        return tokens if self.max_tokens is None else min(tokens, self.max_tokens)

    def estimate_call(self, call: Features) -> int:
        """Return the tokens of a call (or of one text) by its features; at least 1."""
        tokens: float = sum(map(operator.mul, self._list, call))
        return max(1, round(tokens))

    def reserve(self, call: Features) -> int:
        """Return the tokens to reserve in the quota: the estimate and twice the usual error.

        The errors of few texts cancel each other out less than those of many. The result is at
        most the call's bytes, and at most `max_tokens` for each of its texts.
        """
        error = self.error * math.sqrt(max(1.0, self._texts / max(1, call[0])))
        tokens = self.estimate_call(call) * (1 + 2 * error)
        if self.max_tokens is not None:
            tokens = min(tokens, call[0] * self.max_tokens)
        return max(1, round(min(tokens, float(_BYTES @ call) + call[0])))

    def learn(self, call: Features, actual_tokens: int) -> None:
        """Correct the estimates by the service's count for a call.

        Do not use calls with texts that the model may have cut: their counts are too low.
        """
        guess = float(self._weights @ call)
        if actual_tokens <= 0 or guess <= 0:
            return
        miss = abs(guess / actual_tokens - 1)
        trust = 1.0 if self.calls < 3 else min(1.0, max(_HUBER, 3 * self.error) / max(miss, 1e-9))
        size = max(guess, actual_tokens)
        scaled = np.asarray(call, float) / size
        weight = trust / _NOISE**2
        self._seen = _KEEP * self._seen + weight * np.outer(scaled, scaled)
        self._seen_right = _KEEP * self._seen_right + weight * scaled * (actual_tokens / size)
        self._solve()
        rate = max(_RISE if miss > self.error else _FALL, 1 / (self.calls + 2))
        self.error += rate * (min(miss, 1.0) - self.error)
        self._texts += rate * (call[0] - self._texts)
        self.calls += 1

    def _solve(self) -> None:
        """Improve the weights: a few sweeps of non-negative least squares."""
        matrix = self._prior + self._seen
        right = self._prior @ _PRIOR + self._seen_right
        weights = self._weights
        for _ in range(_SWEEPS):
            for at in range(len(weights)):
                step = (right[at] - matrix[at] @ weights) / matrix[at, at]
                weights[at] = max(0.0, weights[at] + step)
        self._list = weights.tolist()
