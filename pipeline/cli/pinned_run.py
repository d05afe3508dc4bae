"""The request of the run that made a dataset, from the settings in its `run.json`.

A dataset may come from somebody else, and its settings may say anything. Therefore they never
decide which host gets the API key or a query, where the key is read, or which endpoint a store has.
Only the settings that say how texts are made and how fast they are sent are used.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

import click
from click.core import ParameterSource

from bulkembed.pipeline.cli.options import (
    MEDIA_PLACES,
    OF_DATASETS,
    OPTIONS,
    SERVICE_OPTIONS,
)
from bulkembed.pipeline.cli.run_command import request_from, run
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.schemas.embedding import Service, ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.secrets import without_credentials
from bulkembed.transforms.core.file_names import native_name
from bulkembed.transforms.inputs.text_recipe import encode_template

_NAMES = frozenset(str(option.name) for option in SERVICE_OPTIONS)
_TAKEN = frozenset(str(option.name) for option in OPTIONS if option.section in OF_DATASETS) - {
    "rate_service",
    "media_root",
    "allow_private_addresses",
}
"""Settings that are used as they are; none of them names a host, or files of this machine."""
_RENAMED = {
    "call_deadline_s": "retry_timeout_s",
    "max_in_flight": "concurrency",
    "table_files_as_they_are": "tables_as_files",
}
"""Names of settings in earlier versions, and their present names."""
_OF_SERVICE = frozenset({"emulator", "vertexai", "base_url", "api_version"})
"""Settings of the service that are used after a check."""


def given_service(ctx: click.Context) -> dict[str, Any]:
    """Return the options of SERVICE_OPTIONS that were given, by their names."""
    return _given(ctx, _NAMES)


def given_places(ctx: click.Context) -> dict[str, Any]:
    """Return the options of MEDIA_PLACES that were given, by their names."""
    return _given(ctx, frozenset(str(option.name) for option in MEDIA_PLACES))


def _given(ctx: click.Context, names: frozenset[str]) -> dict[str, Any]:
    return {
        name: value
        for name, value in ctx.params.items()
        if name in names and ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }


def request_of(
    pinned: dict[str, Any], given: dict[str, Any], *, calls: bool = True, reads: bool = True
) -> RunRequest:
    """Return the request of a dataset's last run, with some of its options replaced.

    The settings have the rank of a `--config` file: the environment and flags override them.

    Args:
        pinned: the content of `run.json`; its settings are options by their names.
        given: options that replace settings. One option of the service replaces all settings of
            the service.
        calls: whether the request is for calls to the service.
        reads: whether the request is for reading the input.

    Raises:
        ConfigError: options that do not go together, or settings that name a host or a store's
            endpoint, which must be given on the command line.
    """
    from bulkembed.transforms.dataset import run_file

    settings = {_RENAMED.get(name, name): value for name, value in pinned["settings"].items()}
    kept = {name: settings[name] for name in settings if name in _TAKEN}
    template = run_file.template_of(pinned)
    if template is not None:
        # The layout has the template of the texts: earlier versions did not decode the setting.
        kept["text_template"] = encode_template(template)
    if not _NAMES & given.keys():
        kept |= _checked_service(settings, calls=calls)
    if reads and "patterns" not in given:
        _check_patterns(kept.get("patterns"))
    if reads and settings.get("media_root") and "media_root" not in given:
        shown = _shown(settings["media_root"])
        raise ConfigError(
            f"the dataset names {shown} as the folder of its media, and a dataset may name any "
            f"folder. If you trust it, add --media-root {shown}"
        )
    if kept.get("patterns"):
        kept["patterns"] = [native_name(str(pattern)) for pattern in kept["patterns"]]
    ctx = run.make_context("run", [], default_map={**kept, **given})
    return request_from({**ctx.params, **given})


def _checked_service(settings: dict[str, Any], *, calls: bool) -> dict[str, Any]:
    """Return the settings of the service that can be trusted.

    Raises:
        ConfigError: the user must name the service.
    """
    if not calls:
        return {"vertexai": settings.get("vertexai", False)}
    base_url, project = settings.get("base_url"), settings.get("vertex_project")
    if base_url is not None and not _is_harmless(str(base_url)):
        raise ConfigError(
            f"the dataset names {_shown(base_url)} as its service. Your API key would be sent to "
            "that host, and a dataset may name any host. If you trust it, add --base-url "
            f"{_shown(base_url)}"
        )
    if project is not None:
        raise ConfigError(
            f"the dataset names the Vertex AI project {project!r}, and a dataset may name any "
            "project. Add --vertexai, --vertex-project and --vertex-location with your project."
        )
    return {name: settings[name] for name in _OF_SERVICE if settings.get(name) is not None}


def _is_harmless(base_url: str) -> bool:
    """Return whether a base URL is Google's or on this machine."""
    try:
        service = ServiceConfig(kind=Service.CUSTOM, base_url=base_url)
    except (ConfigError, ValueError):
        return False
    return service.is_loopback or (
        service.is_google and urllib.parse.urlsplit(base_url).scheme == "https"
    )


def _shown(base_url: object) -> str:
    return without_credentials(str(base_url))


def _check_patterns(patterns: object) -> None:
    """Raise ConfigError if a pattern names the host of a store, which may be any host."""
    listed = patterns if isinstance(patterns, list) else [patterns]
    from bulkembed.transforms.inputs.filesystems import names_a_host

    if any(names_a_host(str(pattern)) for pattern in listed):
        raise ConfigError(
            "the dataset's input names the host of a store. Your credentials would be sent to that "
            "host, and a dataset may name any host. Give the input with --against."
        )
