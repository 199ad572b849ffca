"""One platform as its users and operators meet it: a command line, an HTTP port, processes.

Everything goes through subprocesses, sockets and process ids; nothing reaches into the code.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil

ROOT = Path(__file__).resolve().parent.parent
FAMILY = "flights.arrival_delay"
DEPLOYMENT = f"Deployment/{FAMILY}"
REPLICA = "ServeReplica:tondo:Predictor"
_PORTS = (
    "TONDO_HTTP_PORT",
    "TONDO_RAY_PORT",
    "TONDO_DASHBOARD_PORT",
    "TONDO_METRICS_PORT",
    "TONDO_SERVING_HAPROXY_METRICS_PORT",
    "TONDO_SERVING_HAPROXY_STATS_PORT",
)
_never = threading.Event()


@dataclass(frozen=True, slots=True)
class Installation:
    """A home directory with ports of its own; ``folder`` is where its commands are typed."""

    environment: Mapping[str, str]
    folder: Path

    @property
    def home(self) -> Path:
        """Its TONDO_HOME."""
        return Path(self.environment["TONDO_HOME"])

    @property
    def http(self) -> str:
        """Where it answers predictions."""
        return f"http://127.0.0.1:{self.environment['TONDO_HTTP_PORT']}"

    @property
    def dashboard(self) -> str:
        """Where its Ray dashboard is."""
        return f"http://127.0.0.1:{self.environment['TONDO_DASHBOARD_PORT']}"

    @property
    def key(self) -> str:
        """The operator's key."""
        return (self.home / "keys" / "operator").read_text().strip()

    def port(self, name: str) -> int:
        """One of its ports, by the variable that sets it."""
        return int(self.environment[name])

    def run(self, *command: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Runs any command in its environment."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def tondo(self, *arguments: str, exits: int = 0, timeout: float = 300) -> str:
        """What a command prints; it must end with the exit code that is expected.

        That is its output, or its errors if it is expected to fail.
        """
        done = self.run(sys.executable, "-m", "app.cli", *arguments, timeout=timeout)
        told = f"$ tondo {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == exits, told
        assert "Traceback" not in done.stderr, told
        return done.stdout if exits == 0 else done.stderr

    def data(self, *arguments: str) -> Any:
        """What a command says as JSON."""
        return orjson.loads(self.tondo(*arguments, "-o", "json"))

    def client(self, key: str | None = None) -> httpx.Client:
        """A connection to the service that is kept open, with the operator's key or another."""
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
        return httpx.Client(base_url=self.http, headers=headers, timeout=30, trust_env=False)

    def actors(self) -> list[dict[str, Any]]:
        """The living actors, as the dashboard lists them."""
        return [actor for actor in self._dashboard("actors") if actor["state"] == "ALIVE"]

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, as the dashboard lists them."""
        return self._dashboard("jobs")

    def pids(self, named: str) -> set[int]:
        """The processes of the living actors of a name or a class."""
        found = [a for a in self.actors() if named in (a["name"], a["class_name"])]
        return {actor["pid"] for actor in found if psutil.pid_exists(actor["pid"])}

    def pid(self, named: str) -> int:
        """The one process of an actor."""
        (found,) = self.pids(named)
        return found

    def serving(self) -> int | None:
        """The version that the deployment says it serves, if it is steady."""
        status = self.data("get", "Deployment", FAMILY)["status"]
        return status["serving"]["version"] if status["phase"] == "Steady" else None

    def processes(self) -> list[psutil.Process]:
        """Every process of its cluster."""
        record = self.home / "run" / "cluster.json"
        if not record.exists():
            return []
        marked = orjson.loads(record.read_bytes())["id"]
        return [p for p in psutil.process_iter() if _mark_of(p) == marked]

    def _dashboard(self, listed: str) -> list[dict[str, Any]]:
        token = Path(
            os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token")
        ).read_text()
        answer = httpx.get(
            f"{self.dashboard}/api/v0/{listed}",
            params={"detail": "1", "limit": "1000"},
            headers={"Authorization": f"Bearer {token.strip()}"},
            timeout=30,
            trust_env=False,
        )
        answer.raise_for_status()
        return list(answer.json()["data"]["result"]["result"])


@contextmanager
def installed(folder: Path) -> Iterator[Installation]:
    """An installation that is not up yet; whatever was started in it is taken down at the end."""
    # Paths of Unix sockets may have 107 bytes: pytest's own temporary folders are too deep.
    ray = tempfile.mkdtemp(prefix="tondo-ray-")
    installation = Installation(_environment(folder / "home", ray), folder)
    try:
        yield installation
    finally:
        left = installation.processes()
        try:
            if left:
                installation.run(sys.executable, "-m", "app.cli", "down", timeout=120)
        finally:
            _end(left)
            shutil.rmtree(ray, ignore_errors=True)


def wait_until(holds: Callable[[], Any], seconds: float, what: str) -> Any:
    """Looks again and again until something holds; returns it, or fails saying what did not."""
    limit = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < limit, f"not within {seconds:g} s: {what}"
        _never.wait(0.1)
    return found


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(home: Path, ray: str) -> dict[str, str]:
    first = free_port()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TONDO_", "RAY_"))}
    tokens = {k: v for k, v in os.environ.items() if k.startswith("RAY_AUTH_")}
    return {
        **inherited,
        **tokens,
        **{name: str(free_port()) for name in _PORTS},
        "TONDO_HOME": str(home),
        "TONDO_SERVING_FIRST_REPLICA_PORT": str(first),
        "TONDO_SERVING_LAST_REPLICA_PORT": str(min(first + 200, 65_535)),
        "TONDO_RAY_TEMP_DIR": ray,
        "TONDO_RAY_OBJECT_STORE_BYTES": "300000000",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("TONDO_CLUSTER")
    except (psutil.Error, OSError):
        return None


def _end(processes: list[psutil.Process]) -> None:
    """Ends what ``down`` should have ended, so that a failed test leaves nothing behind."""
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue
