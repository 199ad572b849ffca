"""Which code and which libraries made a model."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from training.package.digest import files_digest, files_of

_LIBRARIES = ("xgboost", "onnxruntime", "onnxmltools", "numpy", "pyarrow", "ray")


@dataclass(frozen=True, slots=True)
class CodeState:
    """A model directory by content, and the commit it was at; ``dirty`` if it was not committed.

    Outside a repository ``commit`` is empty and the code counts as dirty.
    """

    digest: str
    commit: str = ""
    dirty: bool = True


def code_state(directory: Path) -> CodeState:
    """The state of a model's directory now."""
    digest = _source_digest(directory)
    commit = _git(directory, "rev-parse", "HEAD")
    if not commit:
        return CodeState(digest)
    changes = _git(directory, "status", "--porcelain", "--", ".")
    return CodeState(digest, commit, dirty=changes is None or bool(changes))


def environment() -> dict[str, str]:
    """The versions of Python and of every library that shapes a model."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def _source_digest(directory: Path) -> str:
    sources = (p for p in files_of(directory) if "__pycache__" not in p.parts)
    return files_digest(directory, sources)


def _git(directory: Path, *arguments: str) -> str | None:
    """What git prints, or None if it cannot say."""
    command = ["git", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
