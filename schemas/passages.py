"""How long texts are cut into passages."""

from __future__ import annotations

import dataclasses

from bulkembed.schemas.errors import ConfigError

BYTES_A_TOKEN = 4
"""UTF-8 bytes that are counted as a token where texts are cut: four letters of English, two of
Russian, one and a third of Chinese.  The same in every run, whatever runs have learnt, so that a
text is cut in the same way each time.  No tokenizer makes more tokens of a text than it has bytes.
"""
LEAST_TOKENS = 16
DEFAULT_TOKENS = 512
"""What a passage has that is to be found by itself; 2,048 bytes, which every model takes whole."""
DEFAULT_OVERLAP = 64


@dataclasses.dataclass(frozen=True, slots=True)
class PassageSize:
    """The most tokens of a passage, title and prefix with it, and of what it repeats of the last.

    A token is BYTES_A_TOKEN bytes.

    Raises:
        ConfigError: sizes that no text can be cut to.
    """

    tokens: int
    overlap: int

    def __post_init__(self) -> None:
        if self.tokens < LEAST_TOKENS:
            raise ConfigError(f"--passage-tokens {self.tokens}: give {LEAST_TOKENS} or more")
        if not 0 <= self.overlap < self.tokens // 2:
            raise ConfigError(
                f"--passage-overlap {self.overlap}: give 0 to {self.tokens // 2 - 1}, less than "
                f"half of the {self.tokens} tokens of a passage"
            )

    @property
    def most_bytes(self) -> int:
        """Of a passage, title and prefix with it."""
        return self.tokens * BYTES_A_TOKEN

    @property
    def overlap_bytes(self) -> int:
        """The most that a passage repeats of the one before it."""
        return self.overlap * BYTES_A_TOKEN
