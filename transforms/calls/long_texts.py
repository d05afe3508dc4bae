"""Texts with more tokens than the model takes, where the service is not to cut them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import EmbeddingConfig, LongText
from bulkembed.schemas.errors import CallRefused
from bulkembed.transforms.calls.caller import Caller, Sink
from bulkembed.transforms.core.content import Content


async def short_enough(
    items: Sequence[Content], embedding: EmbeddingConfig, caller: Caller, sink: Sink
) -> Sequence[Content]:
    """The texts that may be sent; those that the service counts too long are given up on.

    UTF-8 bytes bound the tokens, so that only longer texts are asked about, and not those of which
    the model cannot read all: some would not fit into a call.  Where the service
    does not count, the text is sent, and whether it was cut stays unknown.
    """
    spec = embedding.spec
    if embedding.long_text not in (LongText.DEAD_LETTER, LongText.STOP):
        return items
    doubtful = [item for item in items if item.token_bound > spec.max_tokens]
    too_long = set()
    for item in doubtful:
        if spec.known and item.surely_exceeds(spec.max_tokens):
            too_long.add(item.index)
            size = item.token_bound
            message = f"the text has {size:,} bytes, {spec.name} takes {spec.max_tokens:,} tokens"
            sink.dead(item, DeadCode.TOO_LONG, CallRefused(message), attempts=0)
    doubtful = [item for item in doubtful if item.index not in too_long]
    counts = await asyncio.gather(*map(caller.count_tokens, doubtful))
    for item, tokens in zip(doubtful, counts, strict=True):
        if tokens is not None and tokens > spec.max_tokens:
            too_long.add(item.index)
            message = f"the text has {tokens:,} tokens, {spec.name} takes {spec.max_tokens:,}"
            sink.dead(item, DeadCode.TOO_LONG, CallRefused(message), attempts=0)
    return [item for item in items if item.index not in too_long]
