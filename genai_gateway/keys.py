"""Who asks: keys by their digests, with a project, scopes, models, limits and an end."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

import orjson

from genai_gateway.clock import SECOND, Clock
from genai_gateway.errors import ConfigurationError, Forbidden, Unauthorized

SCOPES = frozenset({"chat", "embeddings", "models"})
_HINT = "Send Authorization: Bearer <key> or x-api-key: <key>; `tondo llm keys create` makes one."

_log = logging.getLogger("tondo.llm")


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be used: money in US dollars a month, requests and tokens a minute. 0: no bound."""

    usd_per_month: float = 0.0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0


@dataclass(frozen=True, slots=True)
class ProjectLimits(Limits):
    """The limits of a project together, and of each of its users."""

    user_usd_per_month: float = 0.0


@dataclass(frozen=True, slots=True)
class Caller:
    """The bearer of a key. ``models`` are patterns of public model names; ``expires_at`` is UTC µs,
    0 for never.
    """

    key: str
    project: str
    user: str = ""
    scopes: frozenset[str] = SCOPES
    models: tuple[str, ...] = ("*",)
    expires_at: int = 0
    limits: Limits = Limits()

    def may(self, scope: str) -> None:
        """Raises Forbidden if the key is not for this kind of request."""
        if scope not in self.scopes:
            raise Forbidden(
                f"the key {self.key} may not ask for {scope}",
                f"Its scopes are {', '.join(sorted(self.scopes))}.",
            )

    def may_use(self, model: str) -> bool:
        """Whether the key is for this model."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


class KeyStore(Protocol):
    """Knows keys by their digests."""

    def find(self, sha256: str) -> Caller | None:
        """The bearer of the key with this digest (lower-case hex)."""
        ...


class FixedKeys:
    """Keys in memory, by their text: for tests and demonstrations."""

    def __init__(self, callers: dict[str, Caller]) -> None:
        self._callers = {digest(text): caller for text, caller in callers.items()}

    def find(self, sha256: str) -> Caller | None:
        """The bearer of the key with this digest."""
        return self._callers.get(sha256)


class FileKeys:
    """Keys of JSON files; a created or revoked key counts within a second.

    A file is a list of objects with ``name`` and ``sha256``, and what ``Caller`` has besides. While
    a file cannot be read, the keys known before stay in force.
    """

    def __init__(self, paths: Sequence[Path], clock: Clock) -> None:
        self._paths = tuple(paths)
        self._clock = clock
        self._stamps: dict[Path, tuple[int, int]] = {}
        self._read: dict[Path, dict[str, Caller]] = {}
        self._look_again = 0

    def find(self, sha256: str) -> Caller | None:
        """The bearer of the key with this digest."""
        now = self._clock.now()
        if now >= self._look_again:
            self._look_again = now + SECOND
            for path in self._paths:
                self._refresh(path)
        return next((keys[sha256] for keys in self._read.values() if sha256 in keys), None)

    def _refresh(self, path: Path) -> None:
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp != self._stamps.get(path):
                self._read[path] = dict(caller_of(e) for e in orjson.loads(path.read_bytes()))
                self._stamps[path] = stamp
        except FileNotFoundError:
            self._read.pop(path, None)
            self._stamps.pop(path, None)
        except (OSError, ValueError, KeyError, TypeError, ConfigurationError) as error:
            _log.error("keys not read: %s", error)


def caller_of(entry: dict[str, Any]) -> tuple[str, Caller]:
    """Digest and bearer of one entry of a file of keys."""
    limits = {name: entry[name] for name in Limits.__slots__ if name in entry}
    caller = Caller(
        key=entry["name"],
        project=entry.get("project", "default"),
        user=entry.get("user", ""),
        scopes=frozenset(entry.get("scopes", SCOPES)),
        models=tuple(entry.get("models", ("*",))),
        expires_at=entry.get("expires_at", 0),
        limits=Limits(**limits),
    )
    unknown = caller.scopes - SCOPES
    if unknown:
        raise ConfigurationError(f"{caller.key} has scopes that do not exist: {sorted(unknown)}")
    return entry["sha256"].lower(), caller


class Doorkeeper:
    """Lets callers in by their headers."""

    def __init__(self, store: KeyStore, clock: Clock, anonymous: Caller | None = None) -> None:
        self._store = store
        self._clock = clock
        self._anonymous = anonymous

    def admit(self, authorization: str, api_key: str) -> Caller:
        """Who it is. Raises Unauthorized: no key, an unknown one, or one past its end."""
        text = _bearer(authorization) or api_key
        caller = self._store.find(digest(text)) if text else None
        if caller is None:
            if self._anonymous is not None:
                return self._anonymous
            what = "the key is not known" if text else "no key came with the request"
            raise Unauthorized(what, _HINT)
        if caller.expires_at and caller.expires_at <= self._clock.now():
            raise Unauthorized(f"the key {caller.key} has expired", "Ask for a new one.")
        return caller


def digest(text: str) -> str:
    """SHA-256 of a key's text, lower-case hex."""
    return hashlib.sha256(text.strip().encode()).hexdigest()


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
