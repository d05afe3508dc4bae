"""Small requests to a service, written, sent and read as a job does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from google.genai import types

from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig
from bulkembed.schemas.errors import CallError, CallRejected, JobRejected, Unavailable
from bulkembed.schemas.service_check import NamedLimit
from bulkembed.transforms.clients.classification import NO_SUCH_METHOD
from bulkembed.transforms.clients.decoding import Answer, decode_answer
from bulkembed.transforms.clients.requests import RequestWriter
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.clients.service_calls import ServiceCalls
from bulkembed.transforms.clients.whole_answers import ChangeRequest, WholeAnswer
from bulkembed.transforms.core.content import Content, TextContent, as_sent
from bulkembed.transforms.core.tokens import NO_FEATURES

_ABOUT_REQUEST = frozenset({
    "model_gone", "path", "method", "dim", "task_type", "request_form", "unexpected",
})  # fmt: skip
"""The rules by which a service rejects one request, rather than a key, a project or a network."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """The answer to a request: its body, or the error that it means."""

    body: bytes
    contents: int
    """How many the request had."""
    error: CallError | None = None

    def decoded(self, dim: int | None) -> Answer:
        """Return the vectors, checked as a job checks them.

        Raises:
            CallError: the request was rejected, or the answer is not one for its contents.
        """
        if self.error is not None:
            raise self.error
        return decode_answer(self.body, self.contents, dim)

    @property
    def words(self) -> str:
        """The status and the service's own words."""
        return "200" if self.error is None else words_of(self.error)


class ProbeCalls:
    """Calls one service with several models.

    Args:
        service: where to call, and how.
        embedding: any model, which messages name.
        key: the API key; None for application-default credentials.

    Raises:
        ConfigError, JobRejected: the environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, service: ServiceConfig, embedding: EmbeddingConfig, key: str | None) -> None:
        self.service = service
        self._calls = ServiceCalls(service, embedding, key)
        self.requests = 0
        """How many were sent."""
        self.was_answered = False
        """Whether the service has answered one, if only with a rejection of that request."""
        self.limits: list[NamedLimit] = []
        """The limits that 429s named."""
        self.batches_texts: bool | None = None
        """Whether the service offers the method for several contents; None: not known yet."""

    def embed(self, embedding: EmbeddingConfig, contents: Sequence[Content]) -> Answer:
        """Return the vectors of contents, in one request if the service takes several contents.

        Raises:
            CallError: see `send`; also a rejection.
        """
        writer = RequestWriter(self.service, embedding)
        if not (writer.may_lack_method(len(contents)) and self.batches_texts is False):
            answer = self.send(embedding, writer.body(contents), len(contents))
            lacks = answer.error is not None and answer.error.http_status in NO_SUCH_METHOD
            if not (lacks and writer.may_lack_method(len(contents))):
                if writer.may_lack_method(len(contents)):
                    self.batches_texts = True
                return answer.decoded(embedding.out_dim)
            self.batches_texts = False
        answers = [self.embed(embedding, [content]) for content in contents]
        return joined(answers)

    def send(
        self,
        embedding: EmbeddingConfig,
        body: dict[str, Any],
        contents: int,
        *,
        change: ChangeRequest | None = None,
    ) -> ProbeAnswer:
        """Return the answer to one request.

        Args:
            embedding: the model, and the settings of its vectors.
            body: what the request holds.
            contents: how many contents the body has.
            change: changes the request before it is sent.

        Raises:
            CallError: there is no answer, or one about the key, the quota or the network.
        """
        dummies = RequestWriter(self.service, embedding).dummies(contents)
        config = types.EmbedContentConfig(http_options=types.HttpOptions(extra_body=body))
        return self.sdk_answer(
            lambda: self._calls.sdk.models.embed_content(
                model=embedding.model, contents=dummies, config=config
            ),
            contents, change,
        )  # fmt: skip

    def send_by_sdk(self, model: str, contents: list[Any], **config: Any) -> ProbeAnswer:
        """Return the answer to google-genai's own request for contents; raises as `send`."""
        return self.sdk_answer(
            lambda: self._calls.sdk.models.embed_content(
                model=model, contents=contents, config=types.EmbedContentConfig(**config)
            ),
            len(contents),
        )

    def sdk_answer(
        self, call: Callable[[], object], contents: int = 1, change: ChangeRequest | None = None
    ) -> ProbeAnswer:
        """Return the answer to any call of google-genai; raises as `send`."""
        try:
            # Once more if the service is at fault, which is often over in a second.
            retry = RetryPolicy(stopped=iter((False, True)).__next__)
            answer = retry.run(lambda: self._checked(call, change), (Unavailable,))
        except (CallRejected, JobRejected) as error:
            if not self.is_about_request(error):
                raise
            self.was_answered = True
            return ProbeAnswer(b"", contents, error)
        self.was_answered = True
        return ProbeAnswer(answer.body, contents)

    @staticmethod
    def is_about_request(error: CallError) -> bool:
        """Return whether an error is about one request, not about a key, project or network."""
        return not isinstance(error, JobRejected) or error.code in _ABOUT_REQUEST

    @property
    def sdk(self) -> Any:
        """The client of google-genai, for `sdk_answer`."""
        return self._calls.sdk

    def close(self) -> None:
        """Close the connections."""
        self._calls.close()

    def _checked(self, call: Callable[[], object], change: ChangeRequest | None) -> WholeAnswer:
        self.requests += 1
        answer = self._calls.answer_to(call, change)
        try:
            self._calls.check(answer)
        except CallError as error:
            self._note_limit(error)
            raise
        return answer

    def _note_limit(self, error: CallError) -> None:
        if error.http_status == 429:
            self.limits.append(
                NamedLimit(
                    getattr(error, "quota_id", None),
                    getattr(error, "quota_value", None),
                    error.retry_delay_s,
                    error.service_message,
                )
            )


def text_of_probe(embedding: EmbeddingConfig, text: str, title: str | None = None) -> TextContent:
    """Return a text as a job sends it, but never cut."""
    title, text = as_sent(embedding, title, text)
    return plain_text(text, title)


def plain_text(text: str, title: str | None = None) -> TextContent:
    """Return a text that is sent as it is, without a prefix."""
    return TextContent(0, b"", 1, len(text), NO_FEATURES, False, title, text)


def words_of(error: CallError) -> str:
    """Return the status of an error and the service's own words."""
    status = "" if error.http_status is None else f"{error.http_status} "
    return f"{status}{error.service_message or error.message}"


def joined(answers: Sequence[Answer]) -> Answer:
    """Return the answers to requests of one content each as one answer."""
    import numpy as np

    counts = [answer.tokens for answer in answers]
    known = [count for count in counts if count is not None]
    return Answer(
        np.concatenate([answer.vectors for answer in answers]),
        sum(known) if len(known) == len(counts) else None,
    )
