"""What a file system says of an error, in one line that tells no secret."""

from __future__ import annotations

import re

# A SAS token signs a URL, and Arrow's messages about Azure name the URL.
_SIGNED = re.compile(
    r"([?&](?:sig|signature|x-amz-[a-z-]+|x-goog-[a-z-]+)=)[^&\s'\"]+", re.IGNORECASE
)


def said(error: Exception) -> str:
    """The first line of an error's message, signatures blotted out; its class where it has none."""
    line = str(error).strip().partition("\n")[0]
    return _SIGNED.sub(r"\1...", line) or type(error).__name__
