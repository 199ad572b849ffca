"""Who may touch a table's files: any number of writers, or one that erases, never both.

A writer's staged files are known to nobody until they are committed, so only while there is no
writer can an erasure tell them from what a crash left behind.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import Conflict


@contextmanager
def writing(root: Path, name: str) -> Iterator[None]:
    """Keeps erasures of a table out; raises Conflict while there is one."""
    with _locked(root, name, fcntl.LOCK_SH, f"rows are being erased from {name}"):
        yield


@contextmanager
def erasing(root: Path, name: str) -> Iterator[None]:
    """Keeps everybody else out of a table; raises Conflict while somebody writes."""
    with _locked(root, name, fcntl.LOCK_EX, f"somebody writes to {name}"):
        yield


@contextmanager
def _locked(root: Path, name: str, kind: int, taken: str) -> Iterator[None]:
    folder = root / "locks"
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(taken, "Try again when that is done.") from None
        yield
    finally:
        os.close(descriptor)
