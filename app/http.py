"""Requests to the running service, with the operator's key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from app.compose import Platform
from app.errors import AppError, BadInput, NotFound, TondoError, Unavailable

if TYPE_CHECKING:
    import httpx

_SECONDS = 30.0
_ERRORS: Mapping[int, type[TondoError]] = {400: BadInput, 404: NotFound, 422: BadInput}


@contextmanager
def open_client(platform: Platform) -> Iterator[httpx.Client]:
    """A client of the running service that keeps its connection and carries the operator's key.

    Raises Unavailable if nothing is up.
    """
    import httpx

    cluster = platform.cluster()
    if cluster is None:
        raise Unavailable(f"nothing is up for {platform.home.root}", "Start it: tondo up")
    headers = _headers(platform)
    with httpx.Client(
        base_url=cluster.http, timeout=_SECONDS, headers=headers, trust_env=False
    ) as client:
        yield client


def ask_service(platform: Platform, path: str, body: Any) -> Any:
    """The answer to a POST; a problem comes back as the error that it tells of.

    Raises Unavailable if nobody listens.
    """
    import httpx

    with open_client(platform) as client:
        try:
            answer = client.post(path, json=body)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{client.base_url} does not answer: {error}", "Look at it with: tondo status"
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
