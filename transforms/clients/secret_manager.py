"""The key from Google Secret Manager, read with the machine's own Google credentials."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from schemas.errors import ConfigError

if TYPE_CHECKING:
    from requests import Session

HOST = "https://secretmanager.googleapis.com"
TIMEOUT_S = 30.0
CURE = "the account that runs here needs the role Secret Manager Secret Accessor"


def read_secret(name: str, session: Session | None = None, host: str = HOST) -> str:
    """The text of a secret's version, the latest one if the name does not say which.

    Args:
        name: projects/PROJECT/secrets/NAME, and perhaps /versions/VERSION.
        session: sends the request; without one, application-default credentials do.
        host: where Secret Manager is.

    Raises:
        ConfigError: there are no credentials, or the secret cannot be had.

    Source: cloud.google.com/secret-manager, versions.access, 2026-11.
    """
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    version = name if "/versions/" in name else f"{name}/versions/latest"
    try:
        answer = (session or _session()).get(f"{host}/v1/{version}:access", timeout=TIMEOUT_S)
    except (GoogleAuthError, RequestException) as error:
        raise ConfigError(f"--api-key-secret {name}: {type(error).__name__}: {error}") from None
    if answer.status_code != 200:
        raise ConfigError(f"--api-key-secret {name}: HTTP {answer.status_code}; {CURE}")
    try:
        return base64.b64decode(answer.json()["payload"]["data"], validate=True).decode()
    except (ValueError, KeyError, TypeError, binascii.Error):
        # Without the error itself: it may hold the bytes that it could not read.
        raise ConfigError(f"--api-key-secret {name}: the answer holds no text") from None


def _session() -> Any:
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    credentials, _ = google.auth.default(["https://www.googleapis.com/auth/cloud-platform"])
    return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]  # google-auth: no types
