"""Who may ask: bearer keys checked against digests, read again when their file changes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from features.clock import Clock
from features.durations import SECOND

_log = logging.getLogger("tondo.serving")


class KeyCheck(Protocol):
    """Decides whether an ``Authorization`` header lets a request in."""

    def allows(self, authorization: bytes) -> bool:
        """True if the header carries a known key."""
        ...


class OpenAccess:
    """Lets every request in; for loopback, when told so."""

    def allows(self, authorization: bytes) -> bool:
        """Always true."""
        return True


class FileKeys:
    """Keys of a ``keys.json`` by their SHA-256; a created or revoked key counts within a second.

    The file is a JSON list of objects with at least ``name`` and ``sha256`` (lower-case hex).
    A key that was checked once is remembered as the header's bytes, so the usual request costs one
    look into a set. While the file cannot be read the keys known before it stay in force.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._stamp: tuple[int, int] | None = None
        self._digests: frozenset[str] = frozenset()
        self._seen: set[bytes] = set()
        self._look_again = 0

    def allows(self, authorization: bytes) -> bool:
        """True if the header is ``Bearer`` and a key whose digest the file lists."""
        now = self._clock.now()
        if now >= self._look_again:
            self._look_again = now + SECOND
            self._refresh()
        return authorization in self._seen or self._check(authorization)

    def _check(self, authorization: bytes) -> bool:
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        known = hashlib.sha256(key.strip()).hexdigest() in self._digests
        if known:
            self._seen.add(authorization)
        return known

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp == self._stamp:
                return
            self._digests = frozenset(_digests(json.loads(self._path.read_bytes())))
            self._seen = set()
            self._stamp = stamp
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("keys not read: %s", error)


def _digests(entries: Iterable[dict[str, str]]) -> Iterable[str]:
    return (entry["sha256"].lower() for entry in entries)
