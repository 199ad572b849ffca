"""The processes of a cluster, told from all others by session and by a mark they inherit."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

import psutil

from app.lifecycle.cluster import Cluster
from app.settings import CLUSTER_VARIABLE

# A process that was killed is gone as soon as a busy machine finds the time.
_KILLED_S = 10.0


def processes_of(cluster: Cluster) -> list[psutil.Process]:
    """Every live process that descends from the cluster's first one, however it was started.

    Descendants stay in its session, or at least inherit the mark: some leave the session, others
    write their title over their environment; none does both.
    """
    session = _session(cluster)
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid()
        and lives(process)
        and (_in_session(process, session) or _marked(process, cluster.id))
    ]


def _session(cluster: Cluster) -> int:
    """The cluster's session, or 0 if another process has been given its number since."""
    taken = psutil.pid_exists(cluster.pid) and not _began(cluster.pid, cluster.started_at)
    return 0 if taken else cluster.pid


def _began(pid: int, started_at: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - started_at) < 1.0
    except psutil.Error:
        return False


def _in_session(process: psutil.Process, session: int) -> bool:
    try:
        return session > 0 and os.getsid(process.pid) == session
    except OSError:
        return False


def end(processes: Iterable[psutil.Process], grace_s: float) -> list[psutil.Process]:
    """Asks the processes to end, makes them after ``grace_s``; returns those that still live."""
    alive = list(processes)
    _signal(alive, signal.SIGTERM)
    alive = wait_for(alive, grace_s)
    _signal(alive, signal.SIGKILL)
    return wait_for(alive, _KILLED_S)


def wait_for(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Waits for processes to end; returns those that still live."""
    _, alive = psutil.wait_procs([p for p in processes if lives(p)], timeout=seconds)
    return [process for process in alive if lives(process)]


def memory_of(processes: Iterable[psutil.Process]) -> int:
    """Bytes that the processes hold for themselves; pages they share count once each."""
    total = 0
    for process in processes:
        try:
            total += int(process.memory_full_info().uss)
        except psutil.Error:
            continue
    return total


def _marked(process: psutil.Process, cluster_id: str) -> bool:
    try:
        return process.environ().get(CLUSTER_VARIABLE) == cluster_id
    except (psutil.Error, OSError):
        return False


def lives(process: psutil.Process) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.Error:
            continue
