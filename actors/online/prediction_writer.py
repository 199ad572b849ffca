"""The one committer of the prediction logs: a named actor that moves the spool into the lake."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from serving.spool import PredictionTable, SpoolCommitter

_NICENESS = 10
NAME = "tondo:predictions"
NAMESPACE = "tondo"
OpenTable = Callable[[], PredictionTable]

_log = logging.getLogger("tondo.predictions")


class PredictionWriter:
    """Commits the spool at intervals and when asked; all its state is on disk."""

    def __init__(self, spool: str, open_table: OpenTable, interval_s: float = 10.0) -> None:
        # Whoever answers now goes first; what waits here is safe on disk.
        os.nice(_NICENESS)
        self._committer = SpoolCommitter(Path(spool), open_table())
        self._committing = threading.Lock()
        self._rows = 0
        self._failures = 0
        self._interval_s = interval_s
        self._stop = threading.Event()
        threading.Thread(target=self._run, name=NAME, daemon=True).start()

    def commit(self) -> dict[str, int]:
        """Commits everything spooled before the call; returns rows per lake table."""
        with self._committing:
            committed = self._committer.commit()
            self._rows += committed.total
            return committed.rows

    def stats(self) -> dict[str, int]:
        """Rows committed and commits failed since the actor started."""
        return {"rows": self._rows, "failures": self._failures}

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self.commit()
            except Exception as error:
                # What could not be committed stays in the spool for the next time.
                self._failures += 1
                _log.error("predictions not committed", exc_info=error)


def start_prediction_writer(spool: Path, open_table: OpenTable, *, interval_s: float = 10.0) -> Any:
    """The running writer's handle, started if there is none; it is restarted for ever."""
    actor = ray.remote(PredictionWriter)
    return actor.options(
        name=NAME,
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        num_cpus=0,
        max_concurrency=4,
    ).remote(str(spool), open_table, interval_s)
