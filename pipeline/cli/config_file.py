"""`--config job.yaml`: every flag as a key; flags and environment win over it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import click

from schemas.errors import ConfigError


def read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """A click callback: makes the file's values the defaults of the command's options.

    Raises:
        ConfigError: the file is not there, is no YAML mapping, or has a key that is no flag.
    """
    if path is None:
        return None
    known = {
        flag.removeprefix("--"): parameter
        for parameter in ctx.command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
        if flag.startswith("--")
    }
    defaults: dict[str, Any] = {}
    for key, value in _load(path).items():
        name = str(key).replace("_", "-")
        parameter = known.get(name)
        if parameter is None or parameter.name in ("config", "help"):
            raise ConfigError(f"--config {path}: {key!r} is no flag{_nearest(name, list(known))}")
        if f"--{name}" in parameter.secondary_opts and isinstance(value, bool):
            value = not value
        defaults[str(parameter.name)] = _as_typed(parameter, value)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return path


def _as_typed(parameter: click.Parameter, value: Any) -> Any:
    """A YAML value as it would be typed behind the flag, for click to read and to check."""
    if value is None or isinstance(value, bool):
        return value
    if getattr(parameter, "multiple", False):
        return list(map(str, value if isinstance(value, list) else [value]))
    if isinstance(value, list) and parameter.type is click.STRING:
        return ",".join(map(str, value))
    return str(value)


def _load(path: Path) -> dict[Any, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: no YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: the file must hold `flag: value` lines")
    return content


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; allowed are {', '.join(sorted(known))}"
