"""The run that made a dataset, from the settings that it left in `run.json`."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from pipeline.cli.run_command import request_from, run
from pipeline.cli.run_options import OPTIONS, SERVICE
from pipeline.request import RunRequest
from transforms.storage.text_recipe import encode_template

SERVICE_OPTIONS = tuple(option for option in OPTIONS if option.section == SERVICE)
"""The options of `run` that say which service is called, for commands that call it as well."""
_OF_THE_RUN = frozenset({"config", "max_cost_usd"})
"""Settings that mean nothing once the run is over."""
_NAMES = frozenset(str(option.name) for option in SERVICE_OPTIONS)


def given_service(ctx: click.Context) -> dict[str, Any]:
    """The options of SERVICE_OPTIONS that a command was given, by their names."""
    return {
        name: value
        for name, value in ctx.params.items()
        if name in _NAMES and ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }


def request_of(pinned: dict[str, Any], given: dict[str, Any]) -> RunRequest:
    """Return what the last run of a dataset was asked to do, with some of its options replaced.

    The settings stand where a `--config` file does: below flags and environment.

    Args:
        pinned: the content of `run.json`; its settings are options by their names.
        given: options that take the place of those.  One about the service replaces all that the
            settings say of it.

    Raises:
        ConfigError: options that do not go together.
    """
    from transforms.storage import run_file

    other = _NAMES if _NAMES & given.keys() else frozenset[str]()
    kept = {k: v for k, v in pinned["settings"].items() if k not in _OF_THE_RUN | other}
    template = run_file.template_of(pinned)
    if template is not None:
        # The one that texts were made with: earlier versions did not decode what was typed.
        kept["text_template"] = encode_template(template)
    ctx = run.make_context("run", [], default_map={**kept, **given})
    return request_from({**ctx.params, **given})
