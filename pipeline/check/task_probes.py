"""Task types, prefixes and titles: what changes a vector."""

from __future__ import annotations

from typing import Any

from bulkembed.pipeline.check.checked_model import (
    PLAIN,
    SAME,
    TEXTS,
    TITLED,
    CheckedModel,
    ProbeResult,
    cosine,
)
from bulkembed.pipeline.check.probe_calls import plain_text, text_of_probe
from bulkembed.schemas.models import TaskType
from bulkembed.transforms.clients.decoding import Answer

_OTHER = TaskType.RETRIEVAL_QUERY


def find_tasks(model: CheckedModel) -> ProbeResult:
    """Find which task types are accepted, and whether they change a vector."""
    first = model.first().vectors[0]
    tasks = [_OTHER] if model.calls.service.vertexai else list(TaskType)
    answer = _of_tasks(model, tasks)
    changed = cosine(answer.vectors[tasks.index(_OTHER)], first)
    model.note_model(task_field=changed < SAME)
    return ProbeResult(
        f"{len(tasks)} accepted; {_OTHER}: cosine {changed:.4f} to {TaskType.RETRIEVAL_DOCUMENT}",
        changed < SAME,
    )


def find_title(model: CheckedModel) -> ProbeResult:
    """Find whether a title changes a vector."""
    vectors = model.first().vectors
    changed = cosine(vectors[0], vectors[TITLED])
    return ProbeResult(f"cosine {changed:.4f}", changed < SAME)


def find_prefix(model: CheckedModel) -> ProbeResult:
    """Find whether the prefix of a task changes a vector."""
    vectors = model.first().vectors
    changed = cosine(vectors[0], vectors[PLAIN])
    return ProbeResult(f"cosine {changed:.4f}", changed < SAME)


def find_ignored_task(model: CheckedModel) -> ProbeResult:
    """Find whether a model with prefixes ignores the task type."""
    plain = model.first().vectors[PLAIN]
    body = model.writer().body([plain_text(TEXTS[0])])
    answer = model.calls.send(model.embedding, with_field(body, "taskType", _OTHER.value), 1)
    if answer.error is not None:
        return ProbeResult(answer.words, True)
    changed = cosine(answer.decoded(model.embedding.out_dim).vectors[0], plain)
    model.note_model(task_field=changed < SAME)
    return ProbeResult(f"cosine {changed:.4f}", changed >= SAME)


def with_field(body: dict[str, Any], name: str, value: object) -> dict[str, Any]:
    """Return the body of a request of one content, with a field of its settings added."""
    if "instances" in body:
        if name == "outputDimensionality":
            return body | {"parameters": body.get("parameters", {}) | {name: value}}
        (instance,) = body["instances"]
        return body | {"instances": [instance | {name: value}]}
    if "requests" in body:
        (request,) = body["requests"]
        return body | {"requests": [request | {name: value}]}
    return body | {"embedContentConfig": body.get("embedContentConfig", {}) | {name: value}}


def _of_tasks(model: CheckedModel, tasks: list[TaskType]) -> Answer:
    """Return the vectors of the first text for each task, in one request."""
    text = text_of_probe(model.embedding, TEXTS[0])
    bodies = [model.writer(task_type=task).body([text]) for task in tasks]
    body = bodies[0]
    if len(tasks) > 1:
        body = {"requests": [one["requests"][0] for one in bodies]}
    return model.calls.send(model.embedding, body, len(tasks)).decoded(model.embedding.out_dim)
