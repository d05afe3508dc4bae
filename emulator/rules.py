"""Read and check requests as the service does; every method gives the same items."""

from __future__ import annotations

import functools
import logging
import re

from bulkembed.emulator import wire
from bulkembed.emulator.api_errors import invalid
from bulkembed.emulator.contents import EMPTY_PART, has_media, read_content
from bulkembed.emulator.media_parts import MediaPart
from bulkembed.emulator.media_rules import Modality
from bulkembed.emulator.targets import Item, Parts, Target
from bulkembed.schemas.models import TITLE, ModelSpec, TaskType, bare_name

log = logging.getLogger("bulkembed.emulator")
_DEVELOPER_REQUEST = frozenset({"model", "content", "taskType", "title", "outputDimensionality"})
_VERTEX_REQUEST = _DEVELOPER_REQUEST | {"autoTruncate", "embedContentConfig"}
_ROW = _DEVELOPER_REQUEST | {"embedContentConfig"}
_VERTEX_ROW = frozenset({"content", "embedContentConfig"})
_CONFIG = frozenset({"taskType", "title", "outputDimensionality"})
_VERTEX_CONFIG = _CONFIG | {"autoTruncate", "documentOcr", "audioTrackExtraction"}
_INSTANCE = frozenset({"content", "taskType", "title", "mimeType"})
_PARAMETERS = frozenset({"outputDimensionality", "autoTruncate"})
_COUNT = frozenset({"contents", "generateContentRequest"})
_VERTEX_COUNT = frozenset({
    "model", "contents", "instances", "systemInstruction", "tools", "generationConfig",
})  # fmt: skip
_GENERATE = frozenset({
    "model", "contents", "systemInstruction", "tools", "toolConfig", "safetySettings",
    "generationConfig", "cachedContent",
})  # fmt: skip


def read_batch(target: Target, body: object) -> list[Item]:
    """Return the items of a `batchEmbedContents`."""
    message = wire.Message(body, "", frozenset({"requests", "model"}))
    _check_model(target, message.text("model"), "BatchEmbedContentsRequest.model", required=False)
    requests = list(message.items("requests"))
    if not requests:
        raise invalid("* BatchEmbedContentsRequest.requests: contents is not specified\n")
    settings = target.settings
    limit = settings.vertex_batch_texts if target.vertex else target.max_texts
    if len(requests) > limit:
        raise invalid(
            f"* BatchEmbedContentsRequest.requests: at most {limit} requests can be in one batch\n",
            "batch_size",
        )
    items = [
        _read_request(target, value, where, in_batch=index)
        for index, (value, where) in enumerate(requests)
    ]
    _check_images(target, items)
    return items


def _check_images(target: Target, items: list[Item]) -> None:
    limit = target.settings.media.call_images
    images = sum(
        isinstance(part, MediaPart) and part.modality is Modality.IMAGE
        for item in items
        for part in item.parts
    )
    if limit and images > limit:
        raise invalid(
            f"Unable to submit request because the model supports at most {limit} image parts per "
            f"request, but {images} were provided."
        )


def read_single(target: Target, body: object) -> list[Item]:
    """Return the one item of an `embedContent`."""
    return [_read_request(target, body, "")]


def read_predict(target: Target, body: object) -> list[Item]:
    """Return the items of a `predict`."""
    message = wire.Message(body, "", frozenset({"instances", "parameters"}))
    parameters = wire.Message(message.get("parameters") or {}, "parameters", _PARAMETERS)
    dim = _check_dim(target.spec, parameters.integer("outputDimensionality"))
    truncate = parameters.flag("autoTruncate") is not False
    instances = list(message.items("instances"))
    if not instances:
        raise invalid("Invalid instances: at least one instance is needed.")
    limit = min(target.spec.predict_texts, target.settings.vertex_predict_texts)
    if len(instances) > limit:
        raise invalid(
            f"{len(instances)} instance(s) is over the limit of {limit} per prediction.",
            "batch_size",
        )
    items = []
    for value, where in instances:
        instance = wire.Message(value, where, _INSTANCE)
        text = instance.text("content")
        if text is None or not (text.strip() or target.settings.blank_texts):
            raise invalid("The text content is empty.", "empty_part")
        task, title = instance.task_type(), instance.text("title")
        items.append(
            _item(target.spec, text, task or TaskType.RETRIEVAL_QUERY, title, dim, truncate)
        )
    return items


def read_row(target: Target, value: object) -> Item:
    """Return the item of a batch job's row; its options may be in `embedContentConfig`."""
    return _read_request(target, value, "request", names=_VERTEX_ROW if target.vertex else _ROW)


def read_count(target: Target, body: object) -> list[Parts]:
    """Return the contents of a `countTokens`, each as its parts."""
    message = wire.Message(body, "", _VERTEX_COUNT if target.vertex else _COUNT)
    if "generateContentRequest" in message:
        where = "generate_content_request"
        message = wire.Message(message.get("generateContentRequest"), where, _GENERATE)
    contents = [read_content(target, value, where) for value, where in message.items("contents")]
    for value, where in message.items("instances"):
        contents.append((wire.Message(value, where, _INSTANCE).text("content") or "",))
    if not contents:
        raise invalid("* CountTokensRequest.contents: contents is not specified\n")
    return contents


def _read_request(
    target: Target,
    value: object,
    where: str,
    in_batch: int | None = None,
    names: frozenset[str] | None = None,
) -> Item:
    if names is None:
        names = _VERTEX_REQUEST if target.vertex else _DEVELOPER_REQUEST
    message = wire.Message(value, where, names)
    if in_batch is None:
        name, required = "EmbedContentRequest.model", False
    else:
        name = f"BatchEmbedContentsRequest.requests[{in_batch}].model"
        required = not target.vertex
    _check_model(target, message.text("model"), name, required=required)
    options = message
    if "embedContentConfig" in message:
        path = message.path("embedContentConfig")
        known = _VERTEX_CONFIG if target.vertex else _CONFIG
        options = wire.Message(message.get("embedContentConfig"), path, known)
    _check_switches(target, options)
    dim = _check_dim(target.spec, options.integer("outputDimensionality"))
    if "content" not in message:
        raise invalid("* EmbedContentRequest.content: content is required\n")
    parts = read_content(target, message.get("content"), message.path("content"), options)
    truncate = not target.vertex or options.flag("autoTruncate") is not False
    task = options.task_type()
    if target.vertex and task is None:
        task = TaskType.RETRIEVAL_QUERY
    text = "\n".join(part for part in parts if isinstance(part, str))
    if has_media(parts):
        return Item(text, text, "", dim, truncate, parts)
    if not text and not target.settings.blank_texts:
        raise invalid(EMPTY_PART, "empty_part")
    return _item(target.spec, text, task, options.text("title"), dim, truncate)


def _check_switches(target: Target, options: wire.Message) -> None:
    for name in ("documentOcr", "audioTrackExtraction"):
        if options.flag(name) is not None and not target.spec.takes_media:
            raise invalid(f"{name} is not supported by the model {target.spec.name}.")


def _item(
    spec: ModelSpec, text: str, task: TaskType | None, title: str | None, dim: int, truncate: bool
) -> Item:
    if spec.prefixes is not None:
        prefix_task, embedded = read_prefix(spec, text)
        return Item(text, embedded, prefix_task, dim, truncate)
    if title and task is not TaskType.RETRIEVAL_DOCUMENT:
        raise invalid(
            "* EmbedContentRequest.title: title is only applicable when TaskType is "
            "RETRIEVAL_DOCUMENT\n"
        )
    whole = f"{title}\n{text}" if title else text
    return Item(whole, whole, task or "", dim, truncate)


def read_prefix(spec: ModelSpec, text: str) -> tuple[str, str]:
    """Return the task that the prefix of a text names, and the words to embed.

    A title in the prefix is embedded before the text, except for the word that replaces a missing
    title. A text without a prefix has no task, and is embedded as it is.
    """
    for task, pattern in _prefix_patterns(spec):
        found = pattern.match(text)
        if found:
            title = found[1] if pattern.groups and found[1] != spec.no_title else None
            rest = text[found.end() :]
            return task, rest if title is None else f"{title}\n{rest}"
    return "", text


@functools.cache
def _prefix_patterns(spec: ModelSpec) -> list[tuple[TaskType, re.Pattern[str]]]:
    """Return a pattern for each prefix of a model, those without a title first."""
    found = [
        (task, re.compile("(.*?)".join(map(re.escape, prefix.split(TITLE))), re.DOTALL))
        for task, prefix in (spec.prefixes or {}).items()
    ]
    return sorted(found, key=lambda one: one[1].groups)


def _check_dim(spec: ModelSpec, dim: int | None) -> int:
    if dim is None:
        return spec.default_dim
    if spec.min_dim == spec.max_dim:
        raise invalid(f"Embedding dimension cannot be set for models/{spec.name}.", "dim")
    if not 1 <= dim <= spec.max_dim:
        raise invalid(
            f"* EmbedContentRequest.output_dimensionality: {dim} is out of the range "
            f"[1, {spec.max_dim}] of models/{spec.name}\n",
            "dim",
        )
    if dim < spec.min_dim:
        _warn_of_dim(spec, dim)
    return dim


@functools.cache
def _warn_of_dim(spec: ModelSpec, dim: int) -> None:
    """Log once for each model and dim that it is below the documented range."""
    log.warning("%s", spec.dim_warning(dim))


def _check_model(target: Target, name: str | None, field: str, *, required: bool) -> None:
    if not name:
        if required:
            raise invalid(f"* {field}: model is not specified\n")
        return
    if "models/" not in name:
        raise invalid(f"* {field}: unexpected model name format\n")
    if bare_name(name) != target.spec.name:
        raise invalid(
            f"* {field}: model must match the model of the batch, models/{target.spec.name}\n"
        )
