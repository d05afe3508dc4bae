"""Find the API key on the worker: in the environment, a file or a secret store."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkembed.schemas.embedding import ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.secrets import MASK, MIN_LENGTH, forms_of, remember

if TYPE_CHECKING:
    from requests import Session

SECRET_MANAGER = "https://secretmanager.googleapis.com"
_SECRET_TIMEOUT_S = 30.0
_SECRET_CURE = "Give the account of this process the role Secret Manager Secret Accessor."


def read_secret(name: str, session: Session | None = None, host: str = SECRET_MANAGER) -> str:
    """Return the text of a secret's version; the latest one if the name has no version.

    Args:
        name: projects/PROJECT/secrets/NAME, and perhaps /versions/VERSION.
        session: sends the request; without one, application-default credentials do.
        host: where Secret Manager is.

    Raises:
        ConfigError: there are no credentials, or the secret cannot be read.

    Source: cloud.google.com/secret-manager, versions.access, 2026-11.
    """
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    version = name if "/versions/" in name else f"{name}/versions/latest"
    try:
        answer = (session or _session()).get(
            f"{host}/v1/{version}:access", timeout=_SECRET_TIMEOUT_S
        )
    except (GoogleAuthError, RequestException) as error:
        raise ConfigError(f"--api-key-secret {name}: {type(error).__name__}: {error}") from None
    if answer.status_code != 200:
        raise ConfigError(f"--api-key-secret {name}: HTTP {answer.status_code}. {_SECRET_CURE}")
    try:
        return base64.b64decode(answer.json()["payload"]["data"], validate=True).decode()
    except (ValueError, KeyError, TypeError, binascii.Error):
        # Without the error itself: it may hold the bytes that it could not read.
        raise ConfigError(f"--api-key-secret {name}: the answer has no text") from None


def _session() -> Any:
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    credentials, _ = google.auth.default(["https://www.googleapis.com/auth/cloud-platform"])
    return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]  # google-auth: no types


KEY_VARIABLES = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
"""The variables with the key, in the order in which google-genai reads them."""

NO_KEY = "no-key-needed"
"""The key for a server on this machine if none is set: the SDK requires one."""
_BLANKS = " \t\r\n"
_GOOGLE_KEY = re.compile(r"(AIza|AQ\.)[\w.-]{20,}")
_FAULTS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("it is empty", lambda key: not key),
    ("it looks like a JSON document", lambda key: key[0] in "{["),
    ("it is in quotes", lambda key: key[0] in "\"'`"),
    ("it contains a carriage return", lambda key: "\r" in key),
    ("it contains a line break", lambda key: "\n" in key),
    ("it contains a blank", lambda key: any(char in key for char in _BLANKS)),
    ("it contains a character that is not ASCII", lambda key: not key.isascii()),
    ("it contains a character that cannot be printed", lambda key: not key.isprintable()),
)
"""Possible faults of a key, each with its test. The words do not show the key."""


def find_key(
    service: ServiceConfig,
    environ: Mapping[str, str] | None = None,
    secrets: Callable[[str], str] = read_secret,
) -> tuple[str | None, str]:
    """Return the key and where it was found; the key is None if the service needs none.

    Args:
        service: names the file or the secret of the key, if it has one.
        environ: the environment; None for that of the process.
        secrets: returns the text of a secret by its name.

    Raises:
        ConfigError: there is no key and one is needed, it cannot be read, or it is not a key.
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
        return _checked(secrets(service.api_key_secret), where), "--api-key-secret"
    for name in KEY_VARIABLES:
        if environ.get(name, "").strip(_BLANKS):
            return _checked(environ[name], name), name
    if not service.needs_key:
        return NO_KEY, "no key needed"
    raise ConfigError(
        "no API key. Set GEMINI_API_KEY or GOOGLE_API_KEY, or use --api-key-file or "
        "--api-key-secret. To try bulkembed without a key, add --emulator."
    )


def _read_key(path: Path) -> str:
    may_be_a_key = (
        _GOOGLE_KEY.fullmatch(str(path)) or not str(path).isprintable() or "{" in str(path)
    )
    shown = "(not shown: it looks like a key)" if may_be_a_key else str(path)
    try:
        return _checked(path.read_bytes().decode(), f"--api-key-file {shown}")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ConfigError(f"--api-key-file {shown}: {reason}") from None


def _checked(text: str, where: str) -> str:
    """Return the key in a text, without surrounding white space.

    Raises:
        ConfigError: it is not a key. The text is not shown: a part of it may be the key.
    """
    key = text.strip(_BLANKS)
    fault = next((words for words, applies in _FAULTS if applies(key)), None)
    if fault is not None:
        raise ConfigError(
            f"{where}: it must contain the key and nothing else, but {fault}. "
            "Nothing was sent, and the value is not shown."
        )
    remember(key)
    return key


def reject_in_flags(flags: Iterable[str], key: str | None) -> None:
    """Reject Beam flags that contain the key: engines store flags and show them on their pages.

    Raises:
        ConfigError: a flag contains the key, or sets one of its variables.
    """
    secret = [key] if key and key != NO_KEY and len(key) >= MIN_LENGTH else []
    words = [*KEY_VARIABLES, *secret]
    for flag in flags:
        if any(word in flag for word in words):
            name = mask(flag.split("=")[0], key) if flag.startswith("--") else "a flag"
            raise ConfigError(
                f"{name} after the bare -- contains the API key or sets its variable. Engines show "
                "their flags in job files, logs and pages. Give the key to the workers by their "
                "own environment, --api-key-file or --api-key-secret."
            )


def mask(text: str, key: str | None) -> str:
    """Return the text with the key masked, however it is escaped."""
    if not key or key == NO_KEY:
        return text
    for form in sorted(forms_of(key), key=len, reverse=True):
        text = text.replace(form, MASK)
    return text
