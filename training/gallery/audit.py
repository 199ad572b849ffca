"""An append-only record in which every entry seals the one before it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from features.errors import DamagedData

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what, when (UTC µs); ``hash`` covers this entry and ``previous``, the last hash."""

    position: int
    at: int
    actor: str
    action: str
    subject: str
    data: Mapping[str, Any]
    previous: str
    hash: str


def next_entry(
    last: AuditEntry | None,
    *,
    at: int,
    actor: str,
    action: str,
    subject: str,
    data: Mapping[str, Any],
) -> AuditEntry:
    """The entry that follows ``last``."""
    position, previous = (last.position + 1, last.hash) if last else (1, GENESIS)
    seal = _hash(previous, position, at, actor, action, subject, data)
    return AuditEntry(position, at, actor, action, subject, data, previous, seal)


def verify_chain(entries: Iterable[AuditEntry]) -> int:
    """How many entries there are; raises DamagedData at the first that was changed or lost."""
    position, previous = 0, GENESIS
    for entry in entries:
        position += 1
        if (entry.position, entry.previous, entry.hash) != (position, previous, _seal(entry)):
            raise DamagedData(
                f"the audit record was changed at entry {position}",
                "Compare with a backup; entries before it are intact.",
            )
        previous = entry.hash
    return position


def _seal(entry: AuditEntry) -> str:
    e = entry
    return _hash(e.previous, e.position, e.at, e.actor, e.action, e.subject, e.data)


def _hash(previous: str, *parts: Any) -> str:
    content = orjson.dumps([previous, *parts], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()
