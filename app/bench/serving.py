"""The serving benchmark: ours over HTTP with features, beside two baselines given theirs.

Closed loop, 1 and 8 keep-alive connections, one C client for every arm, arms one after another in
the same run. The baselines are bare uvicorn with ONNX Runtime (the ceiling) and stock Ray Serve
with XGBoost. Only ratios travel from machine to machine.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from features.errors import Unavailable

CONNECTIONS = (1, 8)
_ARMS = "app.bench.serving_arms"
_CLIENT = Path(__file__).with_name("load.c")
_HOST = "127.0.0.1"
_START_LIMIT_S = 90.0
_WARM_UP_S = 0.5

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One arm: where it listens and the bodies it is asked with, in turn."""

    url: str
    bodies: Sequence[bytes]
    key: str = ""


@dataclass(frozen=True, slots=True)
class Baselines:
    """What the baselines need: the same model in both forms, and one row of its features."""

    onnx: Path
    ubj: Path
    features: Sequence[float]

    @property
    def body(self) -> bytes:
        """The body both baselines read; a missing value is NaN, which JSON cannot say, so 0."""
        return json.dumps({"features": [0.0 if v != v else v for v in self.features]}).encode()


def run(ours: Target, baselines: Baselines, *, seconds: float = 3.0, stock: bool = True) -> Json:
    """Measures every arm and returns the report with ratios ours ÷ baseline."""
    with tempfile.TemporaryDirectory() as scratch:
        client = build_client(Path(scratch))
        arms = {"ours": _measure(client, ours, seconds)}
        with _arm("bare", baselines.onnx) as url:
            arms["bare"] = _measure(client, Target(url, [baselines.body]), seconds)
        if stock:
            with _arm("stock_serve", baselines.ubj) as url:
                arms["stock"] = _measure(client, Target(url, [baselines.body]), seconds)
    return report(arms)


def report(arms: dict[str, dict[int, Json]]) -> Json:
    """The benchmark's JSON from what each arm measured, per number of connections."""
    most = max(CONNECTIONS)
    ours, bare = arms["ours"], arms["bare"]
    ratios = {
        "throughput_vs_bare": _ratio(ours[most], bare[most], "requests_per_s"),
        "throughput_vs_bare_1": _ratio(ours[1], bare[1], "requests_per_s"),
        "p50_vs_bare": _ratio(ours[1], bare[1], "p50_us"),
        "p99_vs_bare": _ratio(ours[1], bare[1], "p99_us"),
    }
    if "stock" in arms:
        ratios["throughput_vs_stock"] = _ratio(ours[most], arms["stock"][most], "requests_per_s")
    values: Json = {
        f"{arm}_{connections}": measured
        for arm, by_connections in arms.items()
        for connections, measured in by_connections.items()
    }
    values["requests"] = sum(m["requests"] for m in ours.values())
    values["errors"] = sum(m["errors"] for m in ours.values())
    return {
        "name": "serving",
        "seed": 0,
        "environment": {"machine": platform.machine(), "cpus": os.cpu_count()},
        "values": values,
        "ratios": ratios,
    }


def build_client(directory: Path) -> Path:
    """Compiles the load generator; raises Unavailable if the machine has no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unavailable("no C compiler (cc) for the load generator", "install gcc or clang")
    client = directory / "load"
    subprocess.run([compiler, "-O2", "-o", str(client), str(_CLIENT)], check=True)
    return client


def request_bytes(target: Target) -> bytes:
    """The whole HTTP requests of a target, as the load generator reads them."""
    parts = urlsplit(target.url)
    authorization = f"Authorization: Bearer {target.key}\r\n" if target.key else ""
    head = (
        f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n{authorization}"
        "Content-Type: application/json\r\nContent-Length: "
    )
    return b"\n%%\n".join(f"{head}{len(body)}\r\n\r\n".encode() + body for body in target.bodies)


def _measure(client: Path, target: Target, seconds: float) -> dict[int, Json]:
    parts = urlsplit(target.url)
    requests = client.with_name("requests")
    requests.write_bytes(request_bytes(target))

    def load(connections: int, duration: float) -> Json:
        much = (str(connections), str(duration))
        command = [str(client), _HOST, str(parts.port), *much, str(requests)]
        done = subprocess.run(command, check=True, capture_output=True)
        measured: Json = json.loads(done.stdout)
        return measured

    load(max(CONNECTIONS), _WARM_UP_S)
    return {connections: load(connections, seconds) for connections in CONNECTIONS}


@contextmanager
def _arm(name: str, model: Path) -> Iterator[str]:
    """Runs a baseline in a process of its own, in an environment without our Serve settings."""
    port = _free_port()
    url = f"http://{_HOST}:{port}/predict"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TONDO_"))}
    command = [sys.executable, "-m", f"{_ARMS}.{name}", str(model), str(port)]
    process = subprocess.Popen(command, env=clean, stdout=subprocess.DEVNULL)
    try:
        _wait(process, port)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    url = f"http://{_HOST}:{port}/"
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        if _listens(url):
            return
        time.sleep(0.2)
    raise Unavailable("a baseline did not start", "its error stands above")


def _listens(url: str) -> bool:
    try:
        urllib.request.urlopen(url, data=b'{"features": []}', timeout=2).close()
    except urllib.error.HTTPError as error:
        return error.code == 500
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _ratio(ours: Json, baseline: Json, name: str) -> float:
    return round(float(ours[name]) / float(baseline[name]), 3)
