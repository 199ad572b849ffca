"""Gallery's port: the only registry of model versions."""

from __future__ import annotations

from typing import Protocol

from training.gallery.audit import AuditEntry
from training.gallery.model_version import AliasMove, ModelVersion


class Gallery(Protocol):
    """Versions are immutable and numbered 1, 2, 3 per family; aliases move by compare-and-set.

    Linearizable per family. The package is stored before its version is created.
    """

    def create(self, draft: ModelVersion) -> ModelVersion:
        """Numbers and keeps a draft, with its metrics, lineage and audit row, all or nothing.

        The same run creating the same package again is given the version it already has.
        Raises BadInput for a draft that is not one, Conflict if the run made another package.
        """
        ...

    def get(self, family: str, reference: int | str) -> ModelVersion:
        """The version of that number or alias; raises NotFound with what there is."""
        ...

    def list(self, family: str | None = None) -> tuple[ModelVersion, ...]:
        """All versions of a family, or of all, by family and number; maybe none."""
        ...

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
        """Moves an alias to ``to`` (None removes it) if it names ``expect`` (None: nothing) now.

        Raises Conflict if it names another version, NotFound if ``to`` does not exist.
        """
        ...

    def history(self, family: str) -> tuple[AliasMove, ...]:
        """Every move of the family's aliases, oldest first."""
        ...


class Audit(Protocol):
    """The append-only record of everything that changed Gallery."""

    def entries(self) -> tuple[AuditEntry, ...]:
        """Every entry, oldest first."""
        ...

    def verify(self) -> int:
        """How many entries hold; raises DamagedData if any entry or version was changed."""
        ...
