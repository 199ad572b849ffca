"""Errors as problem details (RFC 9457): the one place where an error becomes a status."""

from __future__ import annotations

import orjson

from features.errors import (
    BadInput,
    Conflict,
    DefinitionError,
    NotFound,
    TondoError,
    Unavailable,
)
from serving.errors import Overloaded, TooLarge, Unauthorized

PROBLEM_JSON = b"application/problem+json"

# The first match counts, so the narrower error stands first.
_STATUS: tuple[tuple[type[TondoError], int, str], ...] = (
    (Unauthorized, 401, "Unauthorized"),
    (TooLarge, 413, "Content Too Large"),
    (Overloaded, 503, "Overloaded"),
    (NotFound, 404, "Not Found"),
    (Conflict, 409, "Conflict"),
    (Unavailable, 503, "Unavailable"),
    (BadInput, 400, "Bad Request"),
    (DefinitionError, 400, "Bad Request"),
)


def status_of(error: Exception) -> tuple[int, str]:
    """The HTTP status and title of an error; 500 for one that nobody foresaw."""
    for kind, status, title in _STATUS:
        if isinstance(error, kind):
            return status, title
    return 500, "Internal Server Error"


def problem_of(error: Exception, request_id: str) -> tuple[int, bytes]:
    """Status and body of a failed request's answer; an unforeseen error says nothing of itself."""
    status, title = status_of(error)
    foreseen = isinstance(error, TondoError)
    return problem(
        status,
        title,
        error.what if foreseen else "the request failed inside the service",  # type: ignore[attr-defined]
        error.hint if foreseen else "the log has the reason under this request id",  # type: ignore[attr-defined]
        request_id,
    )


def problem(status: int, title: str, detail: str, hint: str, request_id: str) -> tuple[int, bytes]:
    """Status and body of a problem written out."""
    return status, orjson.dumps(
        {
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": detail,
            "hint": hint,
            "request_id": request_id,
        }
    )
