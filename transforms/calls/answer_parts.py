"""The parts of an answer whose call served several receivers, and what an answer counts."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from bulkembed.schemas.media import NO_MEDIA, MediaTokens
from bulkembed.transforms.calls.deliveries import Portion
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.media_content import MediaContent


def answers_of(answer: Answer, portions: Sequence[Portion]) -> Iterator[Answer]:
    """Yield each portion's part of the answer to their call.

    The parts of the counts add up to those of the answer. A count of the whole call is divided by
    the estimates.
    """
    if len(portions) == 1:
        yield answer
        return
    ends = list(itertools.accumulate(len(one.contents) for one in portions))
    tokens = _token_shares(answer, portions)
    media = _media_shares(answer, portions)
    for at, (start, end) in enumerate(itertools.pairwise([0, *ends])):
        yield Answer(
            answer.vectors[start:end],
            None if tokens is None else tokens[at],
            answer.text_tokens and answer.text_tokens[start:end],
            answer.truncated and answer.truncated[start:end],
            None if media is None else media[at],
        )


def counted_tokens(contents: Sequence[Content], answer: Answer) -> int:
    """Return the tokens of an answered call: the service's count, or else the estimate."""
    return sum(content.tokens for content in contents) if answer.tokens is None else answer.tokens


def counted_media(contents: Sequence[Content], answer: Answer) -> MediaTokens:
    """Return the tokens of media of an answered call: the service's count, or else the estimate."""
    return estimated_media(contents) if answer.media is None else answer.media


def estimated_media(contents: Sequence[Content]) -> MediaTokens:
    """Return the tokens of the media of contents, as estimated."""
    media = (one.tokens_by_modality for one in contents if isinstance(one, MediaContent))
    return sum(media, NO_MEDIA)


def _token_shares(answer: Answer, portions: Sequence[Portion]) -> list[int] | None:
    if answer.tokens is None:
        return None
    if answer.text_tokens is None:
        weights = [sum(content.tokens for content in one.contents) for one in portions]
    else:
        counts = iter(answer.text_tokens)
        weights = [sum(itertools.islice(counts, len(one.contents))) for one in portions]
    return shares(answer.tokens, weights)


def _media_shares(answer: Answer, portions: Sequence[Portion]) -> list[MediaTokens] | None:
    if answer.media is None:
        return None
    estimates = [estimated_media(one.contents) for one in portions]
    found, kinds = answer.media, dataclasses.fields(MediaTokens)
    columns = [
        shares(getattr(found, kind.name), [getattr(one, kind.name) for one in estimates])
        for kind in kinds
    ]
    return [MediaTokens(*counts) for counts in zip(*columns, strict=True)]


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """Divide a total by weights, in whole numbers; the first has all of it if all are 0."""
    sums = list(itertools.accumulate(weights))
    if sums[-1] <= 0:
        return [total, *[0] * (len(weights) - 1)]
    ends = [total * one // sums[-1] for one in sums]
    return [end - start for start, end in itertools.pairwise([0, *ends])]
