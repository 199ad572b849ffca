"""Requests to the running service, with the operator's key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.compose import Platform
from app.errors import AppError, BadInput, NotFound, TondoError, Unavailable

_SECONDS = 30.0
_ERRORS: Mapping[int, type[TondoError]] = {400: BadInput, 404: NotFound, 422: BadInput}


def ask_service(platform: Platform, path: str, body: Any) -> Any:
    """The answer to a POST; a problem comes back as the error that it tells of.

    Raises Unavailable if nobody listens.
    """
    import httpx

    cluster = platform.cluster()
    if cluster is None:
        raise Unavailable(f"nothing is up for {platform.home.root}", "Start it: tondo up")
    try:
        with httpx.Client(timeout=_SECONDS, trust_env=False) as client:
            answer = client.post(cluster.http + path, json=body, headers=_headers(platform))
    except httpx.HTTPError as error:
        raise Unavailable(
            f"{cluster.http} does not answer: {error}", "Look at it with: tondo status"
        ) from error
    if answer.status_code >= 400:
        raise _problem(answer)
    return answer.json()


def _headers(platform: Platform) -> dict[str, str]:
    try:
        key = platform.home.operator_key.read_text().strip()
    except OSError:
        return {}
    return {"Authorization": f"Bearer {key}"}


def _problem(answer: Any) -> TondoError:
    try:
        told = answer.json()
        what, hint = str(told.get("detail") or told.get("title")), str(told.get("hint", ""))
    except (ValueError, AttributeError):
        what, hint = f"HTTP {answer.status_code}: {answer.text[:200]}", ""
    kind = _ERRORS.get(answer.status_code, AppError)
    if answer.status_code in (429, 500, 502, 503, 504):
        kind, hint = Unavailable, hint or "Try again; if it stays: tondo status"
    return kind(what, hint)
