"""The record of the running cluster: who started it, where it listens, with which settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil

from app.access.keys import write_private
from app.errors import DamagedData

NAMESPACE = "tondo"
LOOPBACK_ONLY = {
    # Ray takes the machine's outer address even where 127.0.0.1 was asked for, and then listens on
    # every interface, unless multi-node clusters are switched off (a switch named after the
    # systems that have it off by default).
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that ``up`` started or joined.

    ``pid`` and ``started_at`` (s since 1970) name its first process, so that a process id that was
    given away again is never taken for it; ``pid`` is 0 for a cluster that was only joined.
    ``environment`` is what a process needs in order to connect.
    """

    id: str
    address: str
    dashboard: str
    home: str
    settings: Mapping[str, Any]
    pid: int = 0
    started_at: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    http: str = ""
    haproxy: bool = True

    @property
    def owned(self) -> bool:
        """Whether ``up`` started it, so that ``down`` may stop it."""
        return self.pid > 0

    def alive(self) -> bool:
        """Whether its first process still runs; a joined cluster is taken at its word."""
        return not self.owned or same_process(self.pid, self.started_at)


def read_cluster(path: Path) -> Cluster | None:
    """The recorded cluster, or None if nothing is recorded. Raises DamagedData."""
    try:
        return Cluster(**orjson.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        raise DamagedData(
            f"{path} cannot be read: {error}", "Remove it if nothing of Tondo is running."
        ) from None


def running_cluster(path: Path) -> Cluster | None:
    """The recorded cluster if it still runs."""
    cluster = read_cluster(path)
    return cluster if cluster is not None and cluster.alive() else None


def write_cluster(path: Path, cluster: Cluster) -> None:
    """Records a cluster."""
    write_private(path, orjson.dumps(asdict(cluster), option=orjson.OPT_INDENT_2).decode())


def same_process(pid: int, started_at: float) -> bool:
    """Whether the process that began then still runs; one that is only not yet reaped does not."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started_at) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def connect(cluster: Cluster, *, log_to_driver: bool = False) -> Any:
    """Ray, connected to the cluster; does nothing if it is connected already."""
    os.environ.update(cluster.environment)
    import ray

    if not ray.is_initialized():
        ray.init(
            address=cluster.address,
            namespace=NAMESPACE,
            log_to_driver=log_to_driver,
            logging_level="ERROR",
        )
    return ray


def in_ray_job() -> bool:
    """Whether this process is the entry point of a Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
