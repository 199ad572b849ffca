"""How much memory all processes of the demo hold together, and the most that they ever did."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import psutil

from app.lifecycle.cluster import read_cluster
from app.lifecycle.processes import processes_of

_INTERVAL_S = 2.0


class PeakMemory:
    """Looks at this process, its children and the cluster's every two seconds, in a thread.

    ``record`` is where the running cluster is written down.
    """

    def __init__(self, record: Path, interval_s: float = _INTERVAL_S) -> None:
        self._record = record
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tondo:memory", daemon=True)
        self._peak = 0

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak(self) -> int:
        """The most bytes that were seen so far."""
        return self._peak

    def look(self) -> int:
        """The bytes held now."""
        now = bytes_of({p.pid: p for p in (*_own(), *_cluster(self._record))}.values())
        self._peak = max(self._peak, now)
        return now

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self._interval_s)


def bytes_of(processes: Iterable[psutil.Process]) -> int:
    """Bytes that processes hold together; what several share is shared out among them."""
    return sum(_bytes(process) for process in processes)


def _bytes(process: psutil.Process) -> int:
    try:
        info = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(info, "pss", info.uss))


def _own() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _cluster(record: Path) -> list[psutil.Process]:
    try:
        cluster = read_cluster(record)
    except OSError:
        return []
    return [] if cluster is None else processes_of(cluster)
