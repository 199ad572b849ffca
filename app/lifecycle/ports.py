"""Ports: which ones the platform needs, and who sits on one that is taken."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Any

import psutil

from app.errors import Conflict
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class NeededPort:
    """A port that ``up`` will listen on, what for, and the setting that moves it."""

    port: int
    purpose: str
    variable: str
    host: str = "127.0.0.1"


def needed_ports(settings: Settings) -> tuple[NeededPort, ...]:
    """The fixed ports of an installation."""
    serving = settings.serving
    return (
        NeededPort(settings.http.port, "predictions", "TONDO_HTTP_PORT", settings.http.host),
        NeededPort(settings.ray.port, "Ray's head", "TONDO_RAY_PORT"),
        NeededPort(settings.dashboard.port, "the Ray dashboard", "TONDO_DASHBOARD_PORT"),
        NeededPort(settings.metrics.port, "metrics", "TONDO_METRICS_PORT"),
        NeededPort(
            serving.haproxy_metrics_port,
            "HAProxy's metrics",
            "TONDO_SERVING_HAPROXY_METRICS_PORT",
            "0.0.0.0",
        ),
        NeededPort(
            serving.haproxy_stats_port,
            "HAProxy's stats",
            "TONDO_SERVING_HAPROXY_STATS_PORT",
            "0.0.0.0",
        ),
    )


def check_ports(settings: Settings) -> None:
    """Raises Conflict for the first needed port that is taken, with who sits on it."""
    for needed in needed_ports(settings):
        if not is_free(needed):
            raise Conflict(
                f"port {needed.port}, for {needed.purpose}, is in use by {holder(needed.port)}",
                f"End that process, or choose another port: {needed.variable}=…",
            )


def is_free(needed: NeededPort) -> bool:
    """Whether the port can be listened on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A port whose last connections are only winding down is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((needed.host, needed.port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            return False
    return not _answers(needed)


def _answers(needed: NeededPort) -> bool:
    """Somebody may listen on another address of the same port; on loopback we would meet them."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", needed.port)) == 0


def free_port() -> int:
    """A port that was free a moment ago, for pieces whose port nobody needs to know."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def holder(port: int) -> str:
    """The process that listens on a port, as far as this user may see it."""
    try:
        found = [c for c in psutil.net_connections("tcp") if _listens(c, port)]
    except psutil.Error:
        return "another process"
    pid = next((connection.pid for connection in found if connection.pid), None)
    if pid is None:
        return "a process that this user cannot see"
    try:
        return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"


def _listens(connection: Any, port: int) -> bool:
    local = connection.laddr
    return connection.status == psutil.CONN_LISTEN and bool(local) and local.port == port
