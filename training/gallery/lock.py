"""One writer at a time, across processes; the second one is told who the first is."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from features.errors import Conflict


class WriterLock:
    """Held by this process until ``release`` or its end, however that comes.

    Raises Conflict naming the holder if another process, or another lock here, has it.
    """

    def __init__(self, path: Path, who: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise self._taken(path) from None
        self._file.truncate(0)
        self._file.write(f"{who} (process {os.getpid()})")
        self._file.flush()

    def _taken(self, path: Path) -> Conflict:
        self._file.seek(0)
        holder = self._file.read().strip() or "another process"
        self._file.close()
        return Conflict(
            f"{path.parent} is being written by {holder}",
            "One writer at a time: wait for it, or go through it (tondo up).",
        )

    def release(self) -> None:
        """Lets the next writer in."""
        self._file.truncate(0)
        self._file.close()
