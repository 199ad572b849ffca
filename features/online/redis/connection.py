"""The connection to Redis, and what its errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from features.errors import BadInput, Unavailable


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """Where Redis is and how long it may take.

    ``url`` is ``redis://``, ``rediss://`` (TLS) or ``unix://``; the password stands in a file of
    its own. ``deadline_s`` bounds each answer, in seconds.
    """

    url: str
    deadline_s: float = 2.0
    password_file: str = ""


def connect(options: RedisOptions) -> redis.Redis:
    """A client that connects with its first command; it may be shared by threads.

    A connection that was lost meanwhile is made again once. What took too long is not repeated.
    Raises BadInput for a URL that is none.
    """
    given: dict[str, Any] = {"socket_timeout": options.deadline_s}
    if options.password_file:
        given["password"] = _secret(options.password_file)
    try:
        return redis.Redis.from_url(
            options.url,
            socket_connect_timeout=options.deadline_s,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            **given,
        )
    except ValueError as error:
        raise BadInput(f"The URL of Redis is wrong: {error}", "redis://HOST:6379/0") from None


def _secret(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise BadInput(
            f"The password of Redis cannot be read: {error}", "It is the one line of that file."
        ) from None


@contextlib.contextmanager
def answers(what: str) -> Iterator[None]:
    """Turns the errors of Redis into Unavailable."""
    try:
        yield
    except redis.RedisError as error:
        raise Unavailable(f"{what} cannot be reached: {error}", _hint(error)) from error


def _hint(error: redis.RedisError) -> str:
    said = str(error)
    if isinstance(error, redis.AuthenticationError) or said.startswith(("NOAUTH", "NOPERM")):
        return "Give the user and password that Redis expects."
    if said.startswith("OOM") or isinstance(error, redis.OutOfMemoryError):
        return "Redis is full: raise its maxmemory, or drop versions."
    if isinstance(error, redis.ReadOnlyError):
        return "This is a replica: give the address of the primary."
    if said.startswith("MISCONF"):
        return "Redis cannot write to its disk: is it full?"
    return "Does Redis run at this address, and is it reachable from here?"
