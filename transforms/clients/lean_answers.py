"""Query parameters that make answers smaller, without those that a service does not know.

Google documents them for all of its APIs. Source:
docs.cloud.google.com/apis/docs/system-parameters.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from bulkembed.transforms.clients.bodies import NoVectors
from bulkembed.transforms.clients.classification import classify
from bulkembed.transforms.clients.error_answers import read_error

T = TypeVar("T")
log = logging.getLogger("bulkembed")

COMPACT = ("prettyPrint", "false")
"""JSON without indentation: 42 kB for 3,072 dimensions, instead of 70."""
ALT = "alt"
PROTO = (ALT, "proto")
"""Protobuf: 12.3 kB."""
JSON_EVERY = 20
"""With protobuf, one in so many answers is JSON, the first one included: only JSON has counts."""
_DROPPED = {
    COMPACT[0]: (logging.INFO, "the service rejects prettyPrint=false, so its answers are larger"),
    ALT: (logging.WARNING, "the service has no usable answers in protobuf; from now on, bulkembed "
          "asks for JSON as without --wire proto"),
}  # fmt: skip
_NOT_ABOUT_THE_REQUEST = frozenset({401, 403, 407, 408, 429})
_NO_SUCH_FORMAT = frozenset({406, 415, 501})
_VAGUE = frozenset({"method", "model_gone", "page", "path", "refused", "unexpected"})
"""The rules of `classification` that a rejected parameter may match, if nothing names it."""
DOUBT_AFTER = 8
"""Rejections without a clear reason, one after the other, after which each parameter is in doubt
again: a gateway may have been replaced."""
_SOME_PARAMETER = re.compile(
    r"(unknown|unexpected|unsupported|unrecogni[sz]ed|invalid|extra) (url |query )+(string )?param",
    re.IGNORECASE,
)


class LeanAnswers:
    """The parameters of one client's calls.

    Args:
        proto: whether answers with vectors should be in protobuf.
    """

    def __init__(self, *, proto: bool) -> None:
        self._parameters = dict([COMPACT, PROTO] if proto else [COMPACT])
        self._accepted: set[str] = set()
        self._rejections = 0
        self._calls = 0

    async def call(
        self, send: Callable[[Mapping[str, str]], Awaitable[T]], *, vectors: bool = True
    ) -> T:
        """Return the result of `send`, a call with given parameters.

        A call whose answer seems to reject a parameter is repeated without it. If that works, the
        parameter is left out from then on. Until the service has accepted a parameter, or if it
        rejects several calls in a row, a rejection without a clear reason may be about it.

        Args:
            send: makes the call.
            vectors: whether its answer has vectors.

        Raises:
            NoVectors: the answer is an error or a page.
        """
        parameters, refused = self._next(vectors=vectors), set[str]()
        while True:
            try:
                found = await send(parameters)
                break
            except NoVectors as answer:
                suspects = self._suspects(parameters, answer)
                if not suspects:
                    self._accepted.update(refused)  # They were not the reason.
                    raise
            refused |= suspects
            parameters = {name: value for name, value in parameters.items() if name not in suspects}
        self._accepted.update(parameters)
        self._rejections = 0
        self.drop(refused)
        return found

    def drop(self, names: Iterable[str]) -> None:
        """Leave parameters out from now on."""
        for name in names:
            if self._parameters.pop(name, None) is not None:
                log.log(*_DROPPED[name])

    def _suspects(self, sent: Iterable[str], answer: NoVectors) -> frozenset[str]:
        named = refused_parameters(sent, answer.status, answer.body)
        rule = classify(read_error(answer.status, answer.body).reply)
        names_model = rule.name == "model_gone" and b"models/" in answer.body
        if named or names_model or rule.name not in _VAGUE:
            return named
        self._rejections += 1
        if self._rejections >= DOUBT_AFTER:
            self._rejections = 0
            self._accepted.clear()
        return frozenset(sent) - self._accepted

    def _next(self, *, vectors: bool) -> dict[str, str]:
        counts = not vectors or self._calls % JSON_EVERY == 0
        self._calls += vectors
        return {name: one for name, one in self._parameters.items() if name != ALT or not counts}


def refused_parameters(sent: Iterable[str], status: int, body: bytes) -> frozenset[str]:
    """Return the parameters that an answer seems to reject.

    The answer may repeat a text that has the same words, so this is only a reason to try without.

    Args:
        sent: the names of the parameters of the call.
        status: the HTTP status of the answer.
        body: its body, or its beginning.
    """
    names = frozenset(sent)
    if status in _NO_SUCH_FORMAT:
        return names & {ALT}
    if not 400 <= status < 500 or status in _NOT_ABOUT_THE_REQUEST:
        return frozenset()
    words = body.decode(errors="replace")
    named = frozenset(name for name in names if _pattern(name).search(words))
    return named or (names if _SOME_PARAMETER.search(words) else frozenset())


def _pattern(name: str) -> re.Pattern[str]:
    """Return what finds a name in both spellings, prettyPrint and pretty_print."""
    spelled = re.sub("([A-Z])", r"_?\1", name)
    return re.compile(rf"(?<![a-z]){spelled}(?![a-z])", re.IGNORECASE)
