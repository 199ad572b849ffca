"""Gallery in memory: the same promises until the process ends."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from features.clock import Clock
from training.gallery.audit import AuditEntry, next_entry, verify_chain
from training.gallery.history import aliases_of
from training.gallery.model_version import AliasMove, ModelVersion, check_alias, check_draft
from training.gallery.transitions import (
    check_move,
    creation_data,
    move_data,
    same_creation,
    unknown_family,
    unknown_version,
)


class MemoryGallery:
    """Implements Gallery and Audit for tests and trials; threads may share it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._versions: dict[str, list[ModelVersion]] = {}
        self._moves: dict[str, list[AliasMove]] = {}
        self._audit: list[AuditEntry] = []

    def create(self, draft: ModelVersion) -> ModelVersion:
        """Numbers and keeps a draft; see Gallery."""
        check_draft(draft)
        with self._lock:
            known = self._versions.setdefault(draft.family, [])
            run = draft.lineage.run_id
            for existing in known:
                if run and existing.lineage.run_id == run:
                    return same_creation(existing, draft)
            version = replace(draft, version=len(known) + 1, created_at=self._clock.now())
            known.append(version)
            self._record(version.created_at, draft.owner, "create", version.name, version)
            return version

    def get(self, family: str, reference: int | str) -> ModelVersion:
        """One version by number or alias; see Gallery."""
        with self._lock:
            versions = self._versions.get(family)
            if not versions:
                raise unknown_family(family, self._versions)
            number = reference
            if isinstance(reference, str):
                number = aliases_of(self._moves.get(family, ())).get(reference, 0)
            if isinstance(number, int) and 1 <= number <= len(versions):
                return versions[number - 1]
            raise unknown_version(family, reference, len(versions))

    def list(self, family: str | None = None) -> tuple[ModelVersion, ...]:
        """Versions by family and number; see Gallery."""
        with self._lock:
            families = sorted(self._versions) if family is None else [family]
            return tuple(v for name in families for v in self._versions.get(name, ()))

    def move_alias(
        self,
        family: str,
        alias: str,
        to: int | None,
        expect: int | None,
        *,
        actor: str = "",
        reason: str = "",
    ) -> AliasMove:
        """Moves an alias by compare-and-set; see Gallery."""
        check_alias(alias)
        with self._lock:
            if to is not None:
                self.get(family, to)
            moves = self._moves.setdefault(family, [])
            current = aliases_of(moves).get(alias)
            check_move(family, alias, current, expect)
            move = AliasMove(family, alias, to, current, self._clock.now(), actor, reason)
            moves.append(move)
            self._record(move.at, actor, "move_alias", family, move)
            return move

    def history(self, family: str) -> tuple[AliasMove, ...]:
        """The family's alias moves, oldest first."""
        with self._lock:
            return tuple(self._moves.get(family, ()))

    def entries(self) -> tuple[AuditEntry, ...]:
        """The audit record, oldest first."""
        with self._lock:
            return tuple(self._audit)

    def verify(self) -> int:
        """How many audit entries hold; raises DamagedData for a broken chain."""
        return verify_chain(self.entries())

    def _record(
        self, at: int, actor: str, action: str, subject: str, what: ModelVersion | AliasMove
    ) -> None:
        data: Mapping[str, Any]
        data = creation_data(what) if isinstance(what, ModelVersion) else move_data(what)
        last = self._audit[-1] if self._audit else None
        self._audit.append(
            next_entry(last, at=at, actor=actor, action=action, subject=subject, data=data)
        )
