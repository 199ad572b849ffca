"""The Ray head that ``up`` starts: its command, its environment, its birth."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import psutil

from app.compose import Platform
from app.errors import Unavailable
from app.lifecycle.cluster import LOOPBACK_ONLY
from app.lifecycle.ports import free_port
from app.settings import CLUSTER_VARIABLE

_START_SECONDS = 90.0
_POLL_SECONDS = 0.1
# Of the 97, the folder, Ray's node id and the socket's name take 81.
_LONGEST_TEMP = 15
_ROOT = Path(__file__).resolve().parents[2]
_STARTED = "This command will now block"
# Ray Client has no user here. Its server is one more listener, and on a slow machine it gives up on
# the node after 30 s and takes the head with it; Ray leaves it out only where it cannot be had.
_RAY = """
from ray.scripts import scripts
scripts.get_ray_client_dependency_error = lambda: ImportError("not wanted")
scripts.main()
"""


def haproxy_folder(cluster_id: str) -> Path:
    """Where HAProxy keeps its sockets: a socket's path has at most 97 letters, a home has any."""
    usual = Path(tempfile.gettempdir())
    short = usual if len(str(usual)) < _LONGEST_TEMP else Path("/tmp")
    return short / f"tondo-{cluster_id}"


def head_environment(platform: Platform, cluster_id: str) -> dict[str, str]:
    """What every process of the cluster inherits, the jobs included."""
    from serving.on_ray import serve_environment

    serving = platform.settings.serving
    served = serve_environment(
        str(haproxy_folder(cluster_id)),
        metrics_port=serving.haproxy_metrics_port,
        stats_port=serving.haproxy_stats_port,
        ports=(serving.first_replica_port, serving.last_replica_port),
    )
    return {
        **_clean(os.environ),
        **served,
        **client_environment(),
        CLUSTER_VARIABLE: cluster_id,
        "TONDO_HOME": str(platform.home.root),
        # A job's `python` is this one, and it finds the platform wherever it runs.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": _python_path(os.environ.get("PYTHONPATH", "")),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's own actors ask the dashboard for the state of others. They would look its address up
        # in a file that any other Ray on this machine may have written, and wait for that one.
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{platform.settings.dashboard.port}",
        # Actors that need no processor of their own are many here; Ray warns of more than four for
        # each worker that it would start at a time.
        "RAY_worker_maximum_startup_concurrency": str(platform.settings.ray.num_cpus),
        # `down` writes down what is in memory before it stops Ray; a drain would only wait.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_PROMETHEUS_HOST": f"http://127.0.0.1:{platform.settings.metrics.port}",
    }


def client_environment() -> dict[str, str]:
    """What a process needs in order to reach the cluster: loopback, and Ray's token.

    Ray's own token file is used, so that Ray's own commands find it, once ``RAY_AUTH_MODE=token``
    tells them to look; other places that the user chose are passed on.
    """
    chosen = ("RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN")
    passed = {name: os.environ[name] for name in chosen if name in os.environ}
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    return {**LOOPBACK_ONLY, "RAY_AUTH_MODE": mode, **passed}


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Without settings that only the command line reads, and without another cluster's address."""
    left_out = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    return {k: v for k, v in environ.items() if not k.startswith("TONDO_") and k not in left_out}


def _python_path(before: str) -> str:
    return os.pathsep.join(part for part in (str(_ROOT), before) if part)


def head_command(platform: Platform) -> list[str]:
    """``ray start`` with every port that matters fixed, on loopback only."""
    settings = platform.settings
    cpus = max(settings.ray.num_cpus, os.cpu_count() or 1)
    options = {
        "node-ip-address": "127.0.0.1",
        "port": settings.ray.port,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": settings.dashboard.port,
        "dashboard-agent-listen-port": free_port(),
        "metrics-export-port": settings.metrics.port,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "num-cpus": cpus,
        "object-store-memory": settings.ray.object_store_bytes,
        **({"temp-dir": settings.ray.temp_dir} if settings.ray.temp_dir else {}),
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [
        sys.executable,
        "-c",
        _RAY,
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
        *flags,
    ]


def ensure_token() -> None:
    """Makes Ray's token if there is none, readable by its owner only."""
    os.environ.update(client_environment())
    from ray._private.authentication import authentication_token_setup as setup

    if os.environ["RAY_AUTH_MODE"] != "token":
        return
    before = os.umask(0o077)
    try:
        setup.ensure_token_if_auth_enabled(create_token_if_missing=True)
    finally:
        os.umask(before)


def start_head(platform: Platform, cluster_id: str) -> psutil.Process:
    """Starts the head in a session of its own and waits until it is up.

    Raises Unavailable with the end of its log if it dies or takes too long.
    """
    run = platform.home.run
    haproxy_folder(cluster_id).mkdir(mode=0o700, exist_ok=True)
    log = run / "ray.log"
    with log.open("wb") as file:
        process = _spawn(platform, cluster_id, file)
    limit = time.monotonic() + _START_SECONDS
    while _STARTED not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > limit:
            raise _not_started(log, process)
        time.sleep(_POLL_SECONDS)
    return psutil.Process(process.pid)


def _spawn(platform: Platform, cluster_id: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        head_command(platform),
        env=head_environment(platform, cluster_id),
        cwd=platform.home.run,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _not_started(log: Path, process: subprocess.Popen[bytes]) -> Unavailable:
    lines = log.read_text(errors="replace").strip().splitlines()
    told = lines[-1] if lines else "it said nothing"
    ended = process.poll()
    how = f"it ended with {ended}" if ended is not None else "it was not up in time"
    return Unavailable(f"Ray did not start: {how}: {told}", f"Read {log}.")
