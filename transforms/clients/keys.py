"""Where the API key comes from: environment, file or secret store, on the worker only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from schemas.embedding import ServiceConfig
from schemas.errors import ConfigError
from transforms.clients.secret_manager import read_secret

KEY_VARIABLES = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
"""In the order in which google-genai looks at them."""

NO_KEY = "no-key-needed"
"""What is sent to a server on this machine when no key is set: the SDK insists on one."""
SHORTEST_KEY = 8
"""Shorter ones are made up for a server of one's own, and found in a flag by chance."""


def find_key(
    service: ServiceConfig, environ: Mapping[str, str] | None = None
) -> tuple[str | None, str]:
    """The key, and where it was found.  None where the service needs none.

    Raises:
        ConfigError: there is no key and one is needed, or file or secret cannot be read.
    """
    environ = os.environ if environ is None else environ
    if service.vertexai and service.vertex_project:
        return None, "application-default credentials"
    if service.kind == "emulator":
        return NO_KEY, "no key needed"
    if service.api_key_file:
        return _read_key(Path(service.api_key_file)), "--api-key-file"
    if service.api_key_secret:
        where = f"--api-key-secret {service.api_key_secret}"
        return _checked(read_secret(service.api_key_secret), where), "--api-key-secret"
    for name in KEY_VARIABLES:
        if environ.get(name, "").strip():
            return environ[name].strip(), name
    if not service.needs_key:
        return NO_KEY, "no key needed"
    raise ConfigError(
        "no API key: set GEMINI_API_KEY or GOOGLE_API_KEY, or give --api-key-file or "
        "--api-key-secret; to try without a key, add --emulator"
    )


def _read_key(path: Path) -> str:
    try:
        return _checked(path.read_text(), f"--api-key-file {path}")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"--api-key-file {path}: {reason}") from None


def _checked(text: str, where: str) -> str:
    key = text.strip()
    if not key or len(key.split()) != 1 or not key.isascii():
        raise ConfigError(f"{where}: it must hold the key and nothing else")
    return key


def refuse_in_flags(flags: Iterable[str], key: str | None) -> None:
    """Looks for the key in Beam's flags, which engines store with the job and show on their pages.

    Raises:
        ConfigError: a flag holds the key, or sets one of its variables.
    """
    secret = [key] if key and key != NO_KEY and len(key) >= SHORTEST_KEY else []
    words = [*KEY_VARIABLES, *secret]
    for flag in flags:
        if any(word in flag for word in words):
            name = mask(flag.split("=")[0], key) if flag.startswith("--") else "a flag"
            raise ConfigError(
                f"{name} after the bare -- holds the API key or sets its variable; engines show "
                "their flags in job files, logs and pages, so give the key to the workers by "
                "their own environment, --api-key-file or --api-key-secret"
            )


def mask(text: str, key: str | None) -> str:
    """The text with the key blotted out, for words that come from elsewhere."""
    return text.replace(key, "***") if key and key != NO_KEY else text
