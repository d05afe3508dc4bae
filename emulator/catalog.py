"""The models that are served, and their descriptions."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from bulkembed.emulator.api_errors import invalid, no_model, no_vertex_model
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.models import MODELS, ModelSpec, UnitLength, VertexMethod, find_model

_ALL = "all"
_METHODS = ("embedContent", "batchEmbedContents", "countTokens", "predict")


class Catalog:
    """The registry's models and the extra ones, without the retired ones."""

    def __init__(self, settings: EmulatorSettings, today: dt.date) -> None:
        self._models = MODELS | {spec.name: spec for spec in settings.models}
        self._models |= {name: _extra(name, dim) for name, dim in settings.extra_models}
        for name in settings.retired:
            if name == _ALL:
                for spec in MODELS.values():
                    if spec.is_shut_down(today):
                        self._models.pop(spec.name, None)
            elif self._models.pop(name, None) is None and name not in MODELS:
                raise ConfigError(
                    f"--retired {name}: no such model. Known are {', '.join(sorted(MODELS))}."
                )

    def find(self, name: str, version: str, method: str, *, vertex: bool) -> ModelSpec:
        """Return the model; raise ApiError unless it is served and has the method."""
        spec = self.get(name, version, method, vertex=vertex)
        if method not in _METHODS or (method == "predict" and not vertex):
            raise no_model(name, version, method)
        if vertex and method == "predict" and VertexMethod.PREDICT not in spec.vertex_methods:
            raise invalid(f"{name} is not supported in the predict API; use embedContent.")
        embeds = method in ("embedContent", "batchEmbedContents")
        if vertex and embeds and VertexMethod.EMBED_CONTENT not in spec.vertex_methods:
            raise invalid(f"{name} is not supported in the {method} API; use predict.")
        return spec

    def get(self, name: str, version: str, method: str, *, vertex: bool) -> ModelSpec:
        """Return the model; raise ApiError unless it is served."""
        spec = self._models.get(name)
        if spec is None or (spec.vertex_only and not vertex):
            raise no_vertex_model(name) if vertex else no_model(name, version, method)
        return spec

    def page(self, size: str | None, token: str | None, *, vertex: bool) -> dict[str, Any]:
        """Return a page of `models.list`; the token is the position of its first model."""
        specs = [one for one in self._models.values() if vertex or not one.vertex_only]
        try:
            first, count = int(token or 0), int(size or 0) or 50
        except ValueError:
            raise invalid("page_size and page_token must be ones that the service gave.") from None
        last = first + count
        key = "publisherModels" if vertex else "models"
        body: dict[str, Any] = {
            key: [self.describe(one, vertex=vertex) for one in specs[first:last]]
        }
        if last < len(specs):
            body["nextPageToken"] = str(last)
        return body

    def describe(self, spec: ModelSpec, *, vertex: bool) -> dict[str, Any]:
        """Return the description of a model, as in `models.get`."""
        if vertex:
            return {"name": f"publishers/google/models/{spec.name}", "versionId": "default"}
        return {
            "name": f"models/{spec.name}",
            "version": spec.name.rsplit("-", 1)[-1],
            "displayName": spec.name,
            "description": f"{spec.name}, emulated: its vectors are not the service's",
            "inputTokenLimit": spec.max_tokens,
            "outputTokenLimit": 1,
            "supportedGenerationMethods": [
                "embedContent", "batchEmbedContents", "countTokens", "asyncBatchEmbedContent",
            ],
        }  # fmt: skip


def _extra(name: str, dim: int) -> ModelSpec:
    """Return a model that the registry does not have, as `find_model` guesses it."""
    guess = find_model(name)
    unit_length = UnitLength.DEFAULT_DIM if guess.prefixes is None else UnitLength.ALWAYS
    return dataclasses.replace(
        guess, default_dim=dim, min_dim=1, unit_length=unit_length, known=True
    )
