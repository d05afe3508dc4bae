"""The run that made a dataset, from the settings that it left in `run.json`."""

from __future__ import annotations

from typing import Any

from pipeline.cli.run_command import request_from, run
from pipeline.request import RunRequest


def request_of(settings: dict[str, Any], **flags: Any) -> RunRequest:
    """What the last run of a dataset was asked to do, with some of its options replaced.

    The settings stand where a `--config` file does: below flags and environment.

    Args:
        settings: as `run.json` has them: options by their names.
        flags: options that this command was given; None for those that it was not.

    Raises:
        ConfigError: options that do not go together.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    known = {name: value for name, value in settings.items() if name != "config"}
    ctx = run.make_context("run", [], default_map={**known, **given})
    return request_from({**ctx.params, **given})
