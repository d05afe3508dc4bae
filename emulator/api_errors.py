"""The service's errors, in its own words and JSON."""

from __future__ import annotations

from typing import Any

STATUS_OF = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ApiError(Exception):
    """Raised to answer a call with an error.

    `code` is the HTTP status; `status` is Google's name of it, if that is not the usual one.
    `kind` is the name by which `EmulatorSettings.error_words` may give it other words.
    """

    def __init__(
        self,
        code: int,
        message: str,
        details: list[dict[str, Any]] | None = None,
        *,
        status: str | None = None,
        kind: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or []
        self.status = status or STATUS_OF.get(code, "UNKNOWN")
        self.kind = kind

    def body(self) -> dict[str, Any]:
        """Return the JSON of Google's servers."""
        error: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "status": self.status,
        }
        if self.details:
            error["details"] = self.details
        return {"error": error}


class Page(ApiError):
    """An answer that does not come from the service: an HTML page of about 98 kB."""

    def __init__(self, code: int) -> None:
        super().__init__(code, "an HTML page")

    def html(self) -> bytes:
        """Return the page. Most of it is filler, which no log may repeat."""
        head = "<!DOCTYPE html><html><head><title>Sign in to the network</title></head>"
        filler = "<p>filler of the page</p>" * 4000
        return f"{head}<body><h1>{self.code}</h1>{filler}</body></html>".encode()


def bad_field(field: str, description: str) -> ApiError:
    """Return the gateway's 400 for JSON that does not fit the message."""
    violation = (
        {"field": field, "description": description} if field else {"description": description}
    )
    return ApiError(
        400,
        description,
        [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}],
    )


def invalid(message: str, kind: str = "") -> ApiError:
    """Return a 400 of the model's server."""
    return ApiError(400, message, kind=kind)


def too_large(limit: int, status: int = 400) -> ApiError:
    """Return the error for a body over a limit; a 413 is the HTML page of a server before it."""
    if status == 413:
        return Page(413)
    message = f"Request payload size exceeds the limit: {limit} bytes."
    return ApiError(status, message, kind="payload")


def unregistered() -> ApiError:
    """Return the error for a call without a key on the Developer API."""
    return ApiError(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). "
        "Please use API Key or other form of API consumer identity to call this API.",
    )


def unauthenticated() -> ApiError:
    """Return the error for a call with neither key nor token on Vertex AI."""
    return ApiError(
        401,
        "Request is missing required authentication credential. Expected OAuth 2 access token, "
        "login cookie or other valid authentication credential.",
        [_error_info("CREDENTIALS_MISSING", "aiplatform.googleapis.com")],
    )


def bad_key(service: str) -> ApiError:
    """Return the error for a wrong key."""
    message = "API key not valid. Please pass a valid API key."
    localized = {
        "@type": "type.googleapis.com/google.rpc.LocalizedMessage",
        "locale": "en-US",
        "message": message,
    }
    return ApiError(400, message, [_error_info("API_KEY_INVALID", service), localized])


def no_model(name: str, version: str, method: str) -> ApiError:
    """Return the error for a model that does not exist, or not any more."""
    return ApiError(
        404,
        f"models/{name} is not found for API version {version}, or is not supported for {method}. "
        "Call ListModels to see the list of available models and their supported methods.",
        kind="model_gone",
    )


def no_vertex_model(path: str) -> ApiError:
    """Return the same error in the words of Vertex AI."""
    return ApiError(
        404,
        f"Publisher Model `{path}` was not found or your project does not have access to it. "
        "Please ensure you are using a valid model version.",
        kind="model_gone",
    )


def _error_info(reason: str, service: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": service},
    }
