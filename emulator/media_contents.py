"""Contents with media: their tokens, cut at the model's limit, and their one vector."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping

from bulkembed.emulator.media_rules import Modality
from bulkembed.emulator.media_vectors import fuse, text_vector
from bulkembed.emulator.targets import Parts
from bulkembed.emulator.word_vectors import Doubles, words


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredContent:
    """What a content counts as, and its vector of length 1 in the space of the words."""

    tokens: Mapping[Modality, int]
    """By modality, up to the model's limit."""
    is_cut: bool
    vector: Doubles


def measure(parts: Parts, limit: int) -> MeasuredContent:
    """Return what the parts of a content count as; those beyond `limit` tokens are cut."""
    tokens: collections.Counter[Modality] = collections.Counter()
    left, is_cut, fused = limit, False, []
    for part in parts:
        if isinstance(part, str):
            (ids,) = words().token_ids([part], left)
            is_cut = is_cut or len(ids) > left
            kept = min(len(ids), left)
            tokens[Modality.TEXT] += kept
            fused.append((text_vector(ids[:kept]), 1.0 if kept else 0.0))
            left -= kept
            continue
        wanted = sum(count for _, count in part.tokens)
        share = min(1.0, left / wanted) if wanted else 1.0
        for modality, count in part.tokens:
            kept = min(count, left)
            tokens[modality] += kept
            left -= kept
        is_cut = is_cut or share < 1
        fused.append((part.vector, share))
    return MeasuredContent(dict(tokens), is_cut, fuse(fused))


def count_tokens(parts: Parts) -> int:
    """Return the tokens of a content, without a limit."""
    texts = [part for part in parts if isinstance(part, str)]
    media = [count for part in parts if not isinstance(part, str) for _, count in part.tokens]
    return words().count(texts) + sum(media)
