"""An emulator that behaves as `bulkembed check` has found a service (`--as FILE`)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import orjson

from bulkembed.emulator.media_rules import MediaRules, TokenDetails, VertexBatch
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.models import MEDIA_MODEL, MODELS, ModelSpec
from bulkembed.schemas.serialization import from_plain
from bulkembed.schemas.service_check import FORMAT, CheckReport, ModelFacts, ServiceFacts

_LARGE_BODY = 1 << 30
"""The limit of a service that names none."""
_PAYLOAD = "payload"


def read_facts(path: str) -> ServiceFacts:
    """Return the facts in a file that `bulkembed check --json` wrote.

    Raises:
        ConfigError: it cannot be read, or is another file.
    """
    try:
        content = orjson.loads(Path(path).read_bytes())
        report = from_plain(content, CheckReport)
    except OSError as error:
        raise ConfigError(f"--as {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(
            f"--as {path}: this is no file of `bulkembed check --json`: {error}"
        ) from None
    if report.format != FORMAT:
        raise ConfigError(
            f"--as {path}: it has format {report.format}, and this version reads {FORMAT}. Run "
            "`bulkembed check --json` with this version."
        )
    for rule, words in report.facts.errors.items():
        if not 400 <= words.status <= 599:
            raise ConfigError(
                f"--as {path}: facts.errors.{rule}.status is {words.status}. Use 400 to 599."
            )
    return report.facts


def as_found(settings: EmulatorSettings, facts: ServiceFacts) -> EmulatorSettings:
    """Return settings that follow the facts; a setting that has been changed already stays."""
    defaults = EmulatorSettings()
    found = {
        name: value
        for name, value in _changes(settings, facts).items()
        if getattr(settings, name) == getattr(defaults, name)
    }
    return dataclasses.replace(settings, **found)


def _changes(settings: EmulatorSettings, facts: ServiceFacts) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if facts.max_texts is not None:
        found["vertex_batch_texts" if facts.vertexai else "max_texts"] = facts.max_texts
    if facts.batches_texts is False:
        found["vertex_batch"] = VertexBatch.MISSING
    body_bytes = _LARGE_BODY if facts.takes_large_bodies else facts.max_body_bytes
    if body_bytes is not None:
        found["max_body_bytes"] = body_bytes
    if facts.counts_tokens is False:
        found["usage_metadata"] = False
    if facts.token_details is not None:
        found["token_details"] = _token_details(facts.token_details)
    if facts.obeys_pretty_print is False:
        found["pretty"] = True
    if facts.takes_pretty_print is False:
        found["unknown_parameters"] = ("prettyPrint",)
    if facts.takes_batch_jobs is False:
        found["free_tier"] = True
    if facts.takes_blank_texts:
        found["blank_texts"] = True
    errors = dict(facts.errors)
    if _PAYLOAD in errors and errors[_PAYLOAD].status == 413:  # An HTML page.
        del errors[_PAYLOAD]
        if settings.media == MediaRules():
            found["media"] = MediaRules(body_status=413)
    found["error_words"] = tuple(errors.items())
    models = {name: one for name, one in facts.models.items() if name in MODELS}
    found["retired"] = tuple(name for name, one in models.items() if one.served is False)
    found["refuse_long"] = tuple(name for name, one in models.items() if one.cuts_long is False)
    found["models"] = tuple(_model(MODELS[name], one, facts) for name, one in models.items())
    return found


def _token_details(names: tuple[str, ...]) -> TokenDetails:
    known = {TokenDetails.TOKEN.value, TokenDetails.TOKENS.value} & set(names)
    if len(known) == 2:
        return TokenDetails.BOTH
    return TokenDetails(known.pop()) if known else TokenDetails.NONE


def _model(spec: ModelSpec, facts: ModelFacts, service: ServiceFacts) -> ModelSpec:
    """Return the entry of the registry with what was found."""
    found: dict[str, Any] = {}
    if facts.unit_length is not None:
        found["unit_length"] = facts.unit_length
    if facts.takes_media is not None:
        found["takes_media"] = facts.takes_media
    if facts.task_field is not None:
        prefixes = spec.prefixes or MODELS[MEDIA_MODEL].prefixes
        found["prefixes"] = None if facts.task_field else prefixes
    if service.max_texts is not None and not service.vertexai:
        found["max_texts"] = service.max_texts
    if service.takes_large_bodies:
        found["max_body_bytes"] = _LARGE_BODY
    return dataclasses.replace(spec, **found)
