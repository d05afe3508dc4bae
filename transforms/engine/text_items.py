"""A row's text as an item that can be sent, and why one cannot be."""

from __future__ import annotations

from transforms.core.packing import TextItem, json_bytes
from transforms.core.tokens import TokenEstimator, features


def text_item(index: int, title: str | None, text: str, estimator: TokenEstimator) -> TextItem:
    """A text as it is sent, measured: never above the most tokens that the model takes."""
    made_of = features(text if title is None else f"{title} {text}")
    tokens = estimator.estimate_call(made_of)
    if estimator.max_tokens is not None:
        tokens = min(tokens, estimator.max_tokens)
    body_bytes = json_bytes(text) + (json_bytes(title) + 10 if title is not None else 0)
    return TextItem(index, title, text, tokens, body_bytes, made_of)


def why_blank(text: str | None) -> str | None:
    """What a blank text is: null, empty or white space; None for one that is not blank."""
    if text is not None and not text.isspace() and text:
        return None
    what = "null" if text is None else "empty" if not text else "white space only"
    return f"the text is {what}"
