"""What an upstream's status, headers and error body mean: retry or not, and when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from genai_gateway.conversation import Json
from genai_gateway.errors import UpstreamFailed

_RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# Error types that in-band errors (inside a 200) carry, as the status they stand for.
_STATUS_OF_TYPE = {
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "overloaded_error": 529,
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
}
_LONGEST_MESSAGE = 500


def failure_of(
    status: int, headers: Mapping[str, str], body: Json, now: datetime
) -> UpstreamFailed:
    """The failure that an answer with a status of 300 or more is."""
    return UpstreamFailed(
        f"the upstream answered {status}: {_message(body)}",
        _hint(status),
        status,
        status in _RETRYABLE,
        retry_after_s(headers, now),
    )


def failure_in(body: Json) -> UpstreamFailed:
    """The failure inside a 200, or inside a stream."""
    error = body.get("error")
    kind, code = (error.get("type"), error.get("code")) if isinstance(error, dict) else ("", "")
    status = _STATUS_OF_TYPE.get(str(kind)) or _STATUS_OF_TYPE.get(str(code)) or 0
    if not status and isinstance(code, int) and 400 <= code < 600:
        status = code
    retryable = not status or status in _RETRYABLE
    message = f"the upstream sent an error inside its answer: {_message(body)}"
    return UpstreamFailed(message, _hint(status), status, retryable)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds until the upstream wants to be asked again, 0 if it does not say."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _number(headers.get(name, ""))
        if milliseconds is not None:
            return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _number(value)
    return seconds if seconds is not None else _seconds_until(value, now)


def _seconds_until(value: str, now: datetime) -> float:
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < 1e9 else None


def _hint(status: int) -> str:
    if status in (401, 403):
        return "The gateway's own credentials for this provider are wrong; tell its operator."
    return ""


def _message(body: Json) -> str:
    error = body.get("error", body)
    text = error.get("message") if isinstance(error, dict) else error
    if not text:
        text = body.get("message") or body.get("detail") or "(no message)"
    return str(text)[:_LONGEST_MESSAGE]
