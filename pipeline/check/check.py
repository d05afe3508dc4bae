"""`bulkembed check`: compare a service with what bulkembed assumes of it."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import logging
from collections.abc import Sequence
from decimal import ROUND_UP, Decimal

from bulkembed.pipeline.check.checked_model import CheckedModel, FactNotes, MissingVectors
from bulkembed.pipeline.check.probe_calls import ProbeCalls
from bulkembed.pipeline.check.probes import Probe, planned
from bulkembed.pipeline.run.service import serving
from bulkembed.schemas.embedding import EmbeddingConfig, Service, ServiceConfig
from bulkembed.schemas.errors import (
    BadAnswer,
    CallError,
    CallRejected,
    ConfigError,
    JobRejected,
)
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.models import MODELS, bare_name
from bulkembed.schemas.prices import price_of
from bulkembed.schemas.service_check import FORMAT, CheckedAssumption, CheckReport, Verdict
from bulkembed.transforms.clients.keys import find_key

DEFAULT_MODELS = ("gemini-embedding-001", "gemini-embedding-2")
_CONTRADICTS = (CallRejected, JobRejected, BadAnswer)
"""Errors that are the service's answer to a probe; others are about the quota or the network."""

_NAMES = {
    Service.DEVELOPER: "the Developer API",
    Service.VERTEX: "Vertex AI",
    Service.EMULATOR: "the emulator",
}

log = logging.getLogger("bulkembed")


def check_service(service: ServiceConfig, models: Sequence[str]) -> CheckReport:
    """Try out what bulkembed assumes of a service; log the price first.

    A probe that fails does not end the others.

    Raises:
        ConfigError: a model is not in the registry, or there is no key.
        CallError: the service cannot be reached, rejects the key, or has no quota.
    """
    names = [bare_name(name) for name in models]
    for name in names:
        if name not in MODELS:
            raise ConfigError(
                f"--model {name}: bulkembed assumes nothing about a model that `bulkembed models` "
                "does not list."
            )
        EmbeddingConfig(service.identity, name)  # Raises if the service does not have it.
    key, _ = find_key(service)
    with serving(service) as served:
        calls = ProbeCalls(served, EmbeddingConfig(served.identity, names[0]), key)
        try:
            return _report(calls, list(dict.fromkeys(names)))
        finally:
            calls.close()


def _report(calls: ProbeCalls, names: Sequence[str]) -> CheckReport:
    notes = FactNotes({"vertexai": calls.service.vertexai})
    plan = planned([CheckedModel(calls, name, notes) for name in names])
    log.info("%s", _announcement(calls.service, plan))
    assumptions = []
    for probe, model in plan:
        assumptions.append(tried(probe, model))
    return CheckReport(
        format=FORMAT,
        bulkembed_version=importlib.metadata.version("bulkembed"),
        checked_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        service=calls.service.identity,
        api_version=calls.service.api_version,
        requests=calls.requests,
        assumptions=tuple(assumptions),
        limits=tuple(calls.limits),
        facts=notes.facts(),
    )


def tried(probe: Probe, model: CheckedModel) -> CheckedAssumption:
    """Return the line of a probe.

    Raises:
        CallError: the service has not answered any request yet, and does not answer this one.
    """
    try:
        found = probe.find(model)
        verdict = Verdict.AS_ASSUMED if found.as_assumed else Verdict.DIFFERS
        text = found.text
    except MissingVectors:
        verdict, text = Verdict.NOT_CHECKED, "what it needs is missing, see above"
    except ValueError as error:  # google-genai's, about what a service does not offer.
        verdict, text = Verdict.NOT_CHECKED, str(error)
    except CallError as error:
        if not model.calls.was_answered:
            raise
        is_answer = isinstance(error, _CONTRADICTS) and model.calls.is_about_request(error)
        verdict = Verdict.DIFFERS if is_answer else Verdict.NOT_CHECKED
        text = error.message
    return CheckedAssumption(probe.name, model.model, probe.assumed(model), text, verdict)


def _announcement(service: ServiceConfig, plan: Sequence[tuple[Probe, CheckedModel]]) -> str:
    """Return what will be sent, and what it costs."""
    requests = sum(probe.requests(model) for probe, model in plan)
    tokens = sum(probe.billed_tokens(model.spec) for probe, model in plan)
    prices = [price_of(service.identity, model.model) for _, model in plan]
    where = _NAMES.get(service.kind) or service.host
    sent = f"sending {number_of(requests, 'small request')} to {where}"
    if any(price is None for price in prices):
        return f"{sent}, which count as about {tokens:,.0f} tokens"
    usd = sum(
        price.usd(probe.billed_tokens(model.spec))
        for price, (probe, model) in zip(prices, plan, strict=True)
        if price is not None
    )
    most = Decimal(str(usd)).quantize(Decimal("0.001"), ROUND_UP)
    return f"{sent}, at a list price of at most {most} USD"
