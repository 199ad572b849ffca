"""The name of a file or folder by what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(path: Path) -> str:
    """A file's digest, or a folder's: SHA-256 over the sorted (path, digest) of its files."""
    if path.is_file():
        return file_digest(path)
    return files_digest(path, files_of(path))


def files_digest(root: Path, files: Iterable[Path]) -> str:
    """One digest of some files below a folder, their paths included."""
    lines = (f"{file_digest(p)}  {p.relative_to(root).as_posix()}\n" for p in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def files_of(path: Path) -> list[Path]:
    """The regular files below a folder, sorted by their relative path."""
    found = (p for p in path.rglob("*") if p.is_file())
    return sorted(found, key=lambda p: p.relative_to(path).as_posix())
