"""Artifacts by content: written once, whole or not at all, verified whenever they are read."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

from features.errors import BadInput, DamagedData, NotFound, Unavailable
from training.package.digest import files_of, tree_digest

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactStore(Protocol):
    """Keeps files and folders under the digest of their content."""

    def put(self, source: Path) -> str:
        """Stores a file or folder durably and gives its digest; twice is nothing new."""
        ...

    def path(self, digest: str) -> Path:
        """Where the verified artifact lies; raises NotFound or DamagedData."""
        ...

    def __contains__(self, digest: str) -> bool:
        """Whether the artifact is here, without verifying it."""
        ...


class LocalArtifacts:
    """Implements ArtifactStore in a folder: ``sha256/<2 digits>/<64 digits>``."""

    def __init__(self, root: Path) -> None:
        self._root = root / "sha256"

    def put(self, source: Path) -> str:
        """Stores a file or folder; see ArtifactStore."""
        if not source.exists():
            raise NotFound(f"there is nothing to store at {source}")
        digest = tree_digest(source)
        if digest not in self:
            try:
                self._store(source, digest)
            except OSError as error:
                raise Unavailable(
                    f"{source.name} could not be stored in {self._root}: {error}",
                    "Is the disk full or read-only? Nothing half-written was left.",
                ) from error
        return digest

    def path(self, digest: str) -> Path:
        """The verified artifact; see ArtifactStore."""
        place = self._place(digest)
        if not place.exists():
            raise NotFound(f"artifact {digest[:12]}… is not in {self._root}")
        if tree_digest(place) != digest:
            raise DamagedData(
                f"artifact {digest[:12]}… at {place} is not what was stored",
                "Restore it from a backup, or train again: nothing of it was read.",
            )
        return place

    def __contains__(self, digest: str) -> bool:
        return self._place(digest).exists()

    def _place(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise BadInput(f"{digest!r} is not an artifact digest", "64 hex digits of SHA-256.")
        return self._root / digest[:2] / digest

    def _store(self, source: Path, digest: str) -> None:
        place = self._place(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=self._root) as folder:
            copy = Path(folder) / digest
            _copy(source, copy)
            if tree_digest(copy) != digest:
                raise DamagedData(f"{source} changed while it was being stored", "Store it again.")
            _sync(copy)
            _move(copy, place)
        _sync_folder(place.parent)


def _copy(source: Path, copy: Path) -> None:
    if source.is_file():
        shutil.copyfile(source, copy)
    else:
        shutil.copytree(source, copy, copy_function=shutil.copyfile)


def _move(copy: Path, place: Path) -> None:
    try:
        copy.rename(place)
    except OSError:
        # Somebody stored the same content first: theirs is as good.
        if not place.exists():
            raise


def _sync(path: Path) -> None:
    for file in [path] if path.is_file() else files_of(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    if path.is_dir():
        for folder in (path, *(p for p in path.rglob("*") if p.is_dir())):
            _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
