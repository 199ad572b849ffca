"""Does what is stored agree with the audit record?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from features.errors import DamagedData
from training.gallery.audit import AuditEntry, verify_chain


def verify_store(
    entries: Sequence[AuditEntry],
    versions: Iterable[tuple[str, int, bytes]],
    aliases: Mapping[tuple[str, str], int],
) -> int:
    """How many entries hold; raises DamagedData if a version or alias is not what they say."""
    count = verify_chain(entries)
    recorded = {e.subject: e.data["content"] for e in entries if e.action == "create"}
    stored = {f"{family}:{version}": _digest(content) for family, version, content in versions}
    _equal("version", recorded, stored)
    _equal("alias", _aliases(entries), dict(aliases))
    return count


def _aliases(entries: Iterable[AuditEntry]) -> dict[tuple[str, str], int]:
    moves = [e for e in entries if e.action == "move_alias"]
    last = {(e.subject, e.data["alias"]): e.data["to"] for e in moves}
    return {key: to for key, to in last.items() if to is not None}


def _equal(kind: str, recorded: Mapping[Any, Any], stored: Mapping[Any, Any]) -> None:
    for key in recorded.keys() | stored.keys():
        if recorded.get(key) != stored.get(key):
            raise DamagedData(
                f"{kind} {key} is not what the audit record says", "Restore Gallery from a backup."
            )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
