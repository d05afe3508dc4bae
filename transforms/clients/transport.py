"""The HTTP client of a service: its certificates, its proxies, and its network errors."""

from __future__ import annotations

import os
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2

from bulkembed.schemas.embedding import Service, ServiceConfig
from bulkembed.schemas.errors import CallError, ConfigError, Intercepted, JobRefused, Unavailable
from bulkembed.transforms.clients.bodies import BodyKeeper

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


CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Where the environment names the certificates to trust; the first that is set counts."""
PROXY_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
CERTIFICATE_CURE = (
    "set SSL_CERT_FILE to a PEM file with the certificates to trust, those of your organisation's "
    "proxy among them (REQUESTS_CA_BUNDLE counts as well where SSL_CERT_FILE is not set)"
)
_CUT_SHORT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""Errors of broken connections, after which the next attempt may succeed."""


def open_http(service: ServiceConfig, connections: int, certificates: ssl.SSLContext) -> BodyKeeper:
    """Return the HTTP client of a service; nothing is sent.

    Raises:
        ConfigError: a proxy of the environment cannot be used.
    """
    try:
        if service.kind is not Service.EMULATOR:
            for proxy in map(_value_of, PROXY_VARIABLES):
                _ = urllib.parse.urlsplit(proxy).port  # Nobody else looks at it before a call.
        return BodyKeeper(
            verify=certificates,
            # A proxy that the environment names cannot reach the emulator of this process.
            trust_env=service.kind is not Service.EMULATOR,
            timeout=httpx2.Timeout(service.timeout_s),
            limits=httpx2.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=30,
            ),
        )
    except (ImportError, ValueError, httpx2.InvalidURL):
        raise _bad_proxy() from None


def trusted_certificates(service: ServiceConfig) -> ssl.SSLContext:
    """Return the TLS context with the environment's certificates, or else the system's.

    Raises:
        JobRefused: the environment names certificates that cannot be read.
    """
    named = [(name, os.environ[name]) for name in CERTIFICATE_VARIABLES if os.environ.get(name)]
    if not named or service.kind is Service.EMULATOR:
        return httpx2.create_ssl_context(trust_env=False)
    name, path = named[0]
    try:
        if Path(path).is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except FileNotFoundError:
        reason = "there is no such file"
    except ssl.SSLError:
        reason = "the file holds no certificates in PEM form"
    except OSError as error:
        reason = error.strerror or str(error)
    raise JobRefused(
        f"{name}={path}: {reason}; set {name} to a PEM file with the certificates to trust, or "
        "unset it",
        code="certificate",
    )


def _bad_proxy() -> ConfigError:
    """Return the error for an unusable proxy; user and password are not shown."""
    for name in PROXY_VARIABLES:
        value = _value_of(name)
        scheme = value.split("://", 1)[0].lower() if "://" in value else "http"
        if scheme.startswith("socks5"):
            return ConfigError(
                f"{name} names a {scheme} proxy, which takes the package socksio: run "
                "`pip install 'httpx2[socks]'`, or unset the variable"
            )
        if scheme not in PROXY_SCHEMES:
            return ConfigError(
                f"{name} names a {scheme} proxy: only {', '.join(PROXY_SCHEMES)} can be used"
            )
    names = ", ".join(name for name in PROXY_VARIABLES if _value_of(name))
    return ConfigError(f"{names}: not the address of a proxy; write http://host:port")


def _value_of(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower()) or ""


def transport_error(error: Exception) -> CallError:
    """Return the error of ours for one that the HTTP client raised."""
    kind = type(error).__name__
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        return JobRefused(f"the service cannot be called: {error}; check --base-url", code="url")
    if isinstance(error, UnicodeError) or "Illegal header" in str(error):
        # The value is not shown: it may be the key.
        return JobRefused(
            "the request cannot be written: a header holds characters that no header may hold; "
            "check the API key",
            code="header",
        )
    if isinstance(error, httpx2.ProxyError):
        return _proxy_error(error)
    tls = next((one for one in _causes(error) if isinstance(one, ssl.SSLError)), None)
    if bad_certificate(error):
        return _untrusted(getattr(tls, "verify_message", "") or "it is not trusted")
    if tls is not None and not isinstance(tls, _CUT_SHORT):
        return Intercepted(
            f"no TLS connection to the service: {tls.reason or tls}; check the https:// of "
            "--base-url, HTTPS_PROXY and NO_PROXY",
            code="tls",
        )
    timed_out = isinstance(error, httpx2.TimeoutException)
    return Unavailable(
        f"no answer from the service: {kind}" + (f": {error}" if str(error) else ""),
        code="timeout" if timed_out else "connection",
    )


def bad_certificate(error: BaseException) -> bool:
    """Whether the certificate of the other side did not verify."""
    return any(
        isinstance(one, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(one)
        for one in _causes(error)
    )


def _untrusted(reason: str) -> JobRefused:
    return JobRefused(
        f"the certificate of the service does not verify: {reason}; {CERTIFICATE_CURE}",
        code="certificate",
    )


def _proxy_error(error: httpx2.ProxyError) -> CallError:
    """A proxy that opens no connection; its status is the beginning of the message."""
    words = " ".join(str(error).split())[:100]
    if words.startswith("407"):
        return JobRefused(
            "the proxy asks for a user and a password (407); write them into HTTPS_PROXY, as in "
            "http://USER:PASSWORD@HOST:PORT",
            code="proxy",
        )
    if words.startswith("4"):
        return Intercepted(
            f"the proxy opens no connection to the service: {words}; see HTTPS_PROXY and NO_PROXY",
            code="proxy",
        )
    return Unavailable(f"the proxy opens no connection: {words}", code="connection")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
