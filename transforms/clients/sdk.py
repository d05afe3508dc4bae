"""The client of google-genai, with HTTP clients of our own."""

from __future__ import annotations

import ssl

import httpx2
from google import genai
from google.genai import types

from bulkembed.schemas.embedding import ServiceConfig


def open_sdk(
    service: ServiceConfig,
    key: str | None,
    certificates: ssl.SSLContext,
    *,
    http: httpx2.Client | None = None,
    async_http: httpx2.AsyncClient | None = None,
) -> genai.Client:
    """Return a client of google-genai for a service; nothing is sent.

    Args:
        service: where to call, and how.
        key: the API key; None for application-default credentials.
        certificates: the certificates to trust.
        http: sends the calls of threads.
        async_http: sends the calls of an event loop.
    """
    # A client that is never called only keeps the SDK from reading the environment.
    return genai.Client(
        vertexai=service.vertexai,
        api_key=key,
        project=service.vertex_project,
        location=service.vertex_location,
        http_options=types.HttpOptions(
            base_url=service.base_url,
            api_version=service.api_version,
            timeout=int(service.timeout_s * 1000),
            httpx_client=http or httpx2.Client(verify=certificates, trust_env=False),
            httpx_async_client=async_http
            or httpx2.AsyncClient(verify=certificates, trust_env=False),
            async_client_args={"ssl": certificates},
        ),
    )
