"""The errors of other packages on damaged files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFault

_LONGEST = 200


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Turn whatever a decoder raises for damaged bytes into a MediaFault.

    Args:
        what: what is decoded, with its article: `a PNG image`.
    """
    try:
        yield
    except MediaFault:
        raise
    except Exception as error:  # Decoders raise errors of many kinds for damaged bytes.
        words = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
        raise MediaFault(
            DeadCode.CORRUPT_MEDIA, f"{what} that cannot be decoded: {words}"
        ) from error
