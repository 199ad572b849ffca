"""Errors as OpenAI's and Anthropic's clients expect them: body, code and headers."""

from __future__ import annotations

import math

from genai_gateway.conversation import Json
from genai_gateway.errors import (
    BadRequest,
    Blocked,
    CannotTranslate,
    Forbidden,
    GatewayError,
    Limited,
    NotFound,
    OutOfBudget,
    TooLarge,
    Unauthorized,
    Unavailable,
    UpstreamFailed,
    UpstreamTimedOut,
)

# Kind of error: OpenAI's type and code, Anthropic's type. The first that fits counts.
_NAMES: tuple[tuple[type[GatewayError], str, str | None, str], ...] = (
    (CannotTranslate, "invalid_request_error", "unsupported_parameter", "invalid_request_error"),
    (BadRequest, "invalid_request_error", "invalid_value", "invalid_request_error"),
    (Blocked, "invalid_request_error", "content_policy_violation", "invalid_request_error"),
    (Unauthorized, "invalid_request_error", "invalid_api_key", "authentication_error"),
    (Forbidden, "invalid_request_error", "permission_denied", "permission_error"),
    (NotFound, "invalid_request_error", "model_not_found", "not_found_error"),
    (TooLarge, "invalid_request_error", "request_too_large", "request_too_large"),
    (OutOfBudget, "insufficient_quota", "insufficient_quota", "rate_limit_error"),
    (Limited, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error"),
    (UpstreamTimedOut, "server_error", "upstream_timeout", "timeout_error"),
    (UpstreamFailed, "server_error", "upstream_error", "api_error"),
    (Unavailable, "server_error", "unavailable", "overloaded_error"),
    (GatewayError, "server_error", None, "api_error"),
)


def openai_problem(error: GatewayError, request_id: str) -> Json:
    """An error body of the OpenAI schema."""
    type_, code = _named(error)[:2]
    field = error.field if isinstance(error, BadRequest) else ""
    return {
        "error": {
            "message": _message(error),
            "type": type_,
            "param": field or None,
            "code": code,
            "request_id": request_id,
        }
    }


def anthropic_problem(error: GatewayError, request_id: str) -> Json:
    """An error body of the Anthropic schema."""
    return {
        "type": "error",
        "error": {"type": _named(error)[2], "message": _message(error)},
        "request_id": request_id,
    }


def status_of(error: GatewayError) -> int:
    """The HTTP status of an error; an upstream's refusal of the request itself stays one."""
    if isinstance(error, UpstreamFailed) and error.upstream_status in (400, 404, 413, 422, 429):
        return error.upstream_status
    return error.status


def error_headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """Headers that go with an error: when to ask again, and whether asking again can help."""
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    wait_s = getattr(error, "retry_after_s", 0.0)
    if wait_s > 0:
        headers.append((b"retry-after", b"%d" % math.ceil(wait_s)))
    elif isinstance(error, Unavailable):
        headers.append((b"retry-after", b"1"))
    if isinstance(error, (OutOfBudget, UpstreamFailed)):
        # The official clients would repeat these; a spent budget stays spent, and the gateway has
        # tried every target already.
        headers.append((b"x-should-retry", b"false"))
    return headers


def _named(error: GatewayError) -> tuple[str, str | None, str]:
    if isinstance(error, UpstreamFailed) and error.upstream_status == 429:
        return "rate_limit_error", "rate_limit_exceeded", "rate_limit_error"
    if isinstance(error, UpstreamFailed) and status_of(error) in (400, 404, 413, 422):
        return "invalid_request_error", "upstream_refused", "invalid_request_error"
    return next(row[1:] for row in _NAMES if isinstance(error, row[0]))


def _message(error: GatewayError) -> str:
    return f"{error.what} Hint: {error.hint}" if error.hint else error.what
