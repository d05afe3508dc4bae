"""Where calls go, when flags and the environment are put together."""

from __future__ import annotations

import os
from collections.abc import Mapping

from schemas.embedding import Service, ServiceConfig
from schemas.errors import ConfigError

BASE_URL_VARIABLES = ("GOOGLE_GEMINI_BASE_URL",)
VERTEX_BASE_URL_VARIABLES = ("GOOGLE_VERTEX_BASE_URL",)


def service_from(
    *,
    emulator: bool = False,
    vertexai: bool = False,
    base_url: str | None = None,
    api_version: str | None = None,
    timeout_s: float = 60.0,
    vertex_project: str | None = None,
    vertex_location: str | None = None,
    api_key_file: str | None = None,
    api_key_secret: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> ServiceConfig:
    """Where calls go: flags first, then google-genai's own environment variables.

    Raises:
        ConfigError: flags that do not go together.
    """
    environ = os.environ if environ is None else environ
    if emulator and base_url:
        raise ConfigError("--emulator starts a server of its own: leave --base-url out")
    variables = VERTEX_BASE_URL_VARIABLES if vertexai else BASE_URL_VARIABLES
    if not emulator and base_url is None:
        base_url = next((environ[name] for name in variables if environ.get(name)), None)
    if emulator:
        kind = Service.EMULATOR
    elif base_url:
        kind = Service.CUSTOM
    else:
        kind = Service.VERTEX if vertexai else Service.DEVELOPER
    return ServiceConfig(
        kind=kind,
        base_url=base_url,
        api_version=api_version or ("v1beta1" if vertexai else "v1beta"),
        vertex_project=vertex_project,
        vertex_location=vertex_location,
        api_key_file=api_key_file,
        api_key_secret=api_key_secret,
        timeout_s=timeout_s,
        vertexai=vertexai,
    )
