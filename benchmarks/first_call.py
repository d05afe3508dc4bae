"""`bulkembed` that ends without a trace when it would send its first request.

    python -m benchmarks.first_call run --input ...
    python -m benchmarks.first_call ROWS run --input ...

What it cost is what a run needs before it sends anything. With a number of rows, whose texts are
distinct, it makes the vectors of these rows in its process, and ends at the request after them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from benchmarks import ready_vectors
from bulkembed.pipeline.cli.main import main
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.clients.gemini import GeminiClient
from bulkembed.transforms.core.content import Content

_left = 0


async def embed(client: GeminiClient, contents: Sequence[Content]) -> Answer:
    """Return vectors, or end the process with code 0 if there are enough."""
    global _left
    if _left <= 0:
        os._exit(0)
    _left -= len(contents)
    return await ready_vectors.embed(client, contents)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[0].isdigit():
        _left = int(arguments.pop(0))
    GeminiClient.embed = embed  # type: ignore[method-assign]
    main(arguments)
    sys.exit("it sent nothing")
