"""``tondo down``: stops what ``up`` started, gently first, and nothing else."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable

import psutil

from app.compose import Platform
from app.errors import Unavailable
from app.lifecycle.cluster import Cluster, connect, read_cluster, same_process
from app.lifecycle.head import haproxy_folder
from app.lifecycle.processes import end, processes_of

Report = Callable[[str, int, int], None]
_STEPS = 3
_GRACE_SECONDS = 15.0
_POLL_SECONDS = 0.1


def down(platform: Platform, report: Report) -> str:
    """Ends every process of the cluster; returns one line for people.

    Raises Unavailable naming processes that would not end.
    """
    cluster = read_cluster(platform.home.cluster)
    if cluster is None:
        return "nothing to do: nothing is up"
    report("finishing what is in flight", 0, _STEPS)
    if cluster.alive():
        _finish(cluster)
    if not cluster.owned:
        return _left(platform, cluster)
    report("stopping Ray", 1, _STEPS)
    ended = forget(platform, cluster)
    report("done", _STEPS, _STEPS)
    return f"down: {ended} processes ended" if ended else "nothing to do: it had ended already"


def _finish(cluster: Cluster) -> None:
    """Flushes the prediction log and stops the loop; whatever fails is on disk anyway."""
    # A head that dies now leaves whoever connects to it waiting, in Ray's own code and for ever.
    asking = threading.Thread(target=_ask_to_finish, args=[cluster], daemon=True)
    asking.start()
    while asking.is_alive() and cluster.alive():
        asking.join(_POLL_SECONDS)


def _ask_to_finish(cluster: Cluster) -> None:
    from app.plane_on_ray import finish

    with contextlib.suppress(Exception):
        finish(connect(cluster), remove=not cluster.owned)
    with contextlib.suppress(Exception):
        import ray

        ray.shutdown()


def _left(platform: Platform, cluster: Cluster) -> str:
    platform.home.cluster.unlink(missing_ok=True)
    return f"down: left the cluster at {cluster.address}, which goes on"


def forget(platform: Platform, cluster: Cluster) -> int:
    """Ends whatever is left of a cluster and removes its record; returns how many it ended.

    Raises Unavailable naming processes that would not end.
    """
    count = len(processes_of(cluster))
    if same_process(cluster.pid, cluster.started_at):
        end([psutil.Process(cluster.pid)], _GRACE_SECONDS)
    left = end(processes_of(cluster), grace_s=5.0)
    if left:
        names = ", ".join(f"{process.pid}" for process in left)
        raise Unavailable(f"these processes would not end: {names}", "Look at them with ps.")
    shutil.rmtree(haproxy_folder(cluster.id), ignore_errors=True)
    platform.home.cluster.unlink(missing_ok=True)
    return count
