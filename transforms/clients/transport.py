"""The HTTP client of a service: its address, certificates, proxies and network errors."""

from __future__ import annotations

import functools
import os
import ssl
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import google.auth.exceptions
import httpx2

from bulkembed.schemas.embedding import Compression, Service, ServiceConfig, Wire
from bulkembed.schemas.errors import CallError, ConfigError, Intercepted, JobRejected, Unavailable
from bulkembed.transforms.clients.bodies import BodyKeeper
from bulkembed.transforms.clients.whole_answers import AnswerKeeper

Http = TypeVar("Http", AnswerKeeper, BodyKeeper)

SYNC_CONNECTIONS = 16
"""The maximum number of requests in flight of a client for threads."""
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
    compression: Compression = Compression.AUTO,
    wire: Wire = Wire.JSON,
    environ: Mapping[str, str] | None = None,
) -> ServiceConfig:
    """Return the service that calls go to, by flags, or else by google-genai's variables.

    Raises:
        ConfigError: two flags contradict each other.
    """
    environ = os.environ if environ is None else environ
    if emulator and base_url:
        raise ConfigError("--emulator starts a server of its own. Remove --base-url.")
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
        compression=compression,
        wire=wire,
    )


CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name the certificates to trust; the first one that is set counts."""
PROXY_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
CERTIFICATE_CURE = (
    "Set SSL_CERT_FILE (or REQUESTS_CA_BUNDLE) to a PEM file with the certificates to trust. "
    "Include those of your organisation's proxy."
)
_CUT_SHORT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""Errors of broken connections: the next attempt may succeed."""


_ENCODINGS = {Compression.AUTO: "gzip, deflate", Compression.OFF: "identity"}


def open_http(service: ServiceConfig, connections: int, certificates: ssl.SSLContext) -> BodyKeeper:
    """Return the HTTP client of a service for one event loop; nothing is sent.

    Raises:
        ConfigError: a proxy of the environment cannot be used.
    """
    return _opened(BodyKeeper, service, connections, certificates)


def open_sync_http(service: ServiceConfig, certificates: ssl.SSLContext) -> AnswerKeeper:
    """Return the HTTP client of a service for threads; nothing is sent.

    Raises:
        ConfigError: a proxy of the environment cannot be used.
    """
    return _opened(AnswerKeeper, service, SYNC_CONNECTIONS, certificates)


def _opened(
    kind: Callable[..., Http],
    service: ServiceConfig,
    connections: int,
    certificates: ssl.SSLContext,
) -> Http:
    try:
        if service.kind is not Service.EMULATOR:
            for proxy in map(_value_of, PROXY_VARIABLES):
                _ = urllib.parse.urlsplit(proxy).port  # Raises for a bad port.
        return kind(
            verify=certificates,
            # A proxy of the environment cannot reach the emulator of this process.
            trust_env=service.kind is not Service.EMULATOR,
            timeout=httpx2.Timeout(service.timeout_s),
            headers={"accept-encoding": _ENCODINGS[service.compression]},
            limits=httpx2.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=30,
            ),
        )
    except (ImportError, ValueError, httpx2.InvalidURL):
        raise _bad_proxy() from None


def trusted_certificates(service: ServiceConfig) -> ssl.SSLContext:
    """Return the TLS context for a service; see `environment_certificates`."""
    if service.kind is Service.EMULATOR:
        return _system_certificates()
    return environment_certificates()


def environment_certificates() -> ssl.SSLContext:
    """Return the TLS context with the certificates of the environment, or else of the system.

    Raises:
        JobRejected: the environment names certificates that cannot be read.
    """
    named = [(name, os.environ[name]) for name in CERTIFICATE_VARIABLES if os.environ.get(name)]
    if not named:
        return _system_certificates()
    name, path = named[0]
    try:
        if Path(path).is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except FileNotFoundError:
        reason = "the file does not exist"
    except ssl.SSLError:
        reason = "the file has no certificates in PEM form"
    except OSError as error:
        reason = error.strerror or str(error)
    raise JobRejected(
        f"{name}={path}: {reason}. Set {name} to a PEM file with the certificates to trust, or "
        "unset it.",
        code="certificate",
    )


@functools.cache
def _system_certificates() -> ssl.SSLContext:
    """Return one context for all clients of this process: reading the certificates takes 20 ms."""
    return httpx2.create_ssl_context(trust_env=False)


def _bad_proxy() -> ConfigError:
    """Return the error for an unusable proxy, without user and password."""
    for name in PROXY_VARIABLES:
        value = _value_of(name)
        scheme = value.split("://", 1)[0].lower() if "://" in value else "http"
        if scheme.startswith("socks5"):
            return ConfigError(
                f"{name} names a {scheme} proxy, which needs the package socksio. Run "
                "`pip install 'httpx2[socks]'`, or unset the variable."
            )
        if scheme not in PROXY_SCHEMES:
            return ConfigError(
                f"{name} names a {scheme} proxy. Supported are {', '.join(PROXY_SCHEMES)}."
            )
    names = ", ".join(name for name in PROXY_VARIABLES if _value_of(name))
    return ConfigError(f"{names}: this is not the address of a proxy. Write http://HOST:PORT.")


def _value_of(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower()) or ""


def transport_error(error: Exception) -> CallError:
    """Return the CallError for an error of the HTTP client."""
    kind = type(error).__name__
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        return JobRejected(f"the service cannot be called: {error}. Check --base-url.", code="url")
    if isinstance(error, UnicodeError) or "Illegal header" in str(error):
        # The value is not shown: it may be the key.
        return JobRejected(
            "the request cannot be written: a header has characters that are not allowed there. "
            "Check the API key.",
            code="header",
        )
    if isinstance(error, httpx2.ProxyError):
        return _proxy_error(error)
    tls = next((one for one in _causes(error) if isinstance(one, ssl.SSLError)), None)
    if bad_certificate(error):
        return _untrusted(getattr(tls, "verify_message", "") or "it is not trusted")
    if tls is not None and not isinstance(tls, _CUT_SHORT):
        return Intercepted(
            f"no TLS connection to the service: {tls.reason or tls}. Check the https:// of "
            "--base-url, HTTPS_PROXY and NO_PROXY.",
            code="tls",
        )
    timed_out = isinstance(error, httpx2.TimeoutException)
    return Unavailable(
        f"no answer from the service: {kind}" + (f": {error}" if str(error) else ""),
        code="timeout" if timed_out else "connection",
    )


def bad_certificate(error: BaseException) -> bool:
    """Return whether the certificate of the other side could not be verified."""
    return any(
        isinstance(one, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(one)
        for one in _causes(error)
    )


def _untrusted(reason: str) -> JobRejected:
    return JobRejected(
        f"the certificate of the service cannot be verified: {reason}. {CERTIFICATE_CURE}",
        code="certificate",
    )


def _proxy_error(error: httpx2.ProxyError) -> CallError:
    """Return the error for a proxy that opens no connection; the message begins with a status."""
    words = " ".join(str(error).split())[:100]
    if words.startswith("407"):
        return JobRejected(
            "the proxy requires a user and a password (407). Write them into HTTPS_PROXY, as in "
            "http://USER:PASSWORD@HOST:PORT.",
            code="proxy",
        )
    if words.startswith("4"):
        return Intercepted(
            f"the proxy opens no connection to the service: {words}. "
            "Check HTTPS_PROXY and NO_PROXY.",
            code="proxy",
        )
    return Unavailable(f"the proxy opens no connection: {words}", code="connection")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, its cause, the cause of that, and so on."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def forget_frames(error: BaseException) -> None:
    """Forget where an error and its causes were raised.

    The SDK's way of raising errors makes the frames refer to themselves, so that each failed
    request, with its texts and its body, would stay in memory until a garbage collection.
    """
    for one in _causes(error):
        one.__traceback__ = None


def credentials_error(error: google.auth.exceptions.GoogleAuthError) -> CallError:
    """Return the CallError for an error of the application-default credentials."""
    if bad_certificate(error):
        return JobRejected(
            f"the certificate of Google's sign-in cannot be verified. {CERTIFICATE_CURE}",
            code="certificate",
        )
    if isinstance(error, google.auth.exceptions.TransportError) or error.retryable:
        return Unavailable(f"no access token: {error}", code="credentials")
    sentence = f"no application-default credentials: {error}".rstrip(".")
    return JobRejected(
        f"{sentence}. Run `gcloud auth application-default login`, or use a key.",
        code="credentials",
    )
