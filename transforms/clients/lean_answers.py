"""Query parameters that make answers smaller, without those that a service does not know.

Google documents them for all of its APIs.  Source:
docs.cloud.google.com/apis/docs/system-parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

COMPACT = ("prettyPrint", "false")
"""JSON without indentation: 42 kB for 3,072 dimensions, instead of 70."""
_NOT_ABOUT_THE_REQUEST = frozenset({401, 403, 407, 408, 429})
_SOME_PARAMETER = re.compile(
    r"(unknown|unexpected|unsupported|unrecogni[sz]ed|invalid|extra) (url |query )+(string )?param",
    re.IGNORECASE,
)


class LeanAnswers:
    """The parameters of one client's calls.

    A service that does not know one rejects the call.  The caller repeats it without, and drops the
    parameter if that works.
    """

    def __init__(self, *parameters: tuple[str, str]) -> None:
        self._parameters = dict(parameters)

    def parameters(self) -> dict[str, str]:
        """Return the parameters of the next call."""
        return dict(self._parameters)

    def drop(self, names: Iterable[str]) -> None:
        """Leave parameters out from now on."""
        for name in names:
            self._parameters.pop(name, None)


def refused_parameters(sent: Iterable[str], status: int, body: bytes) -> frozenset[str]:
    """Return the parameters that an answer seems to reject.

    The answer may repeat a text that has the same words, so this is only a reason to try without.

    Args:
        sent: the names of the parameters of the call.
        status: the HTTP status of the answer.
        body: its body, or its beginning.
    """
    if not 400 <= status < 500 or status in _NOT_ABOUT_THE_REQUEST:
        return frozenset()
    words = body.decode(errors="replace")
    names = frozenset(sent)
    named = frozenset(name for name in names if _pattern(name).search(words))
    return named or (names if _SOME_PARAMETER.search(words) else frozenset())


def _pattern(name: str) -> re.Pattern[str]:
    """Return what finds a name in both spellings, prettyPrint and pretty_print."""
    spelled = re.sub("([A-Z])", r"_?\1", name)
    return re.compile(rf"(?<![a-z]){spelled}(?![a-z])", re.IGNORECASE)
