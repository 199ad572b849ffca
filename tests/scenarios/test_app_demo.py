"""``tondo demo``: the whole loop in an empty home, in a process of its own, as users run it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
PORTS = (
    "TONDO_HTTP_PORT",
    "TONDO_RAY_PORT",
    "TONDO_DASHBOARD_PORT",
    "TONDO_METRICS_PORT",
    "TONDO_SERVING_HAPROXY_METRICS_PORT",
    "TONDO_SERVING_HAPROXY_STATS_PORT",
)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Free ports and an empty home; whatever is left running is taken down."""
    ray = tempfile.mkdtemp(prefix="tondo-ray-")
    first = _free_port()
    made = {
        **os.environ,
        **{name: str(_free_port()) for name in PORTS},
        "TONDO_HOME": str(tmp_path / "home"),
        "TONDO_SERVING_FIRST_REPLICA_PORT": str(first),
        "TONDO_SERVING_LAST_REPLICA_PORT": str(min(first + 200, 65_535)),
        "TONDO_RAY_TEMP_DIR": ray,
        "PYTHONPATH": str(ROOT),
    }
    try:
        yield made
    finally:
        _tondo(made, tmp_path, "down")
        shutil.rmtree(ray, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_holds(environment: dict[str, str], tmp_path: Path) -> None:
    """One day of replay exits 0, every step holds, and the report has the numbers promised."""
    done = _tondo(environment, tmp_path, "demo", "--days", "1", "-o", "json")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = orjson.loads(done.stdout)
    steps: dict[str, Any] = {step["name"]: step for step in report["steps"]}
    assert all(step["held"] for step in report["steps"]), report
    _check_training(steps["model trained and registered"]["data"])
    replayed = steps["days replayed over HTTP"]["data"]["answers"]
    assert replayed["requests"] > 500
    assert replayed["failures"] == 0
    proof = steps["served equals recomputed"]["data"]
    assert (proof["mismatches"], proof["rows"] >= replayed["requests"]) == (0, True)
    assert proof["values"] > 10 * replayed["requests"]
    assert steps["drift looked for"]["data"]["found"]["drifted"]
    assert steps["retraining under traffic"]["data"]["answers"]["failures"] == 0
    assert report["peakMemoryBytes"] < 8_000_000_000
    home = Path(environment["TONDO_HOME"])
    assert orjson.loads((home / "reports" / "demo.json").read_bytes()) == report
    assert (home / "reports" / "demo.md").is_file()
    assert not (home / "run" / "cluster.json").exists(), "it was not up before, so it is down"


def _check_training(trained: dict[str, Any]) -> None:
    auc = trained["auc"]
    assert auc["arrival_delay"] > auc["arrival_delay_request_only"] > 0.5
    assert auc["arrival_delay_with_dep_delay"] > auc["arrival_delay_request_with_dep_delay"]
    assert trained["promoted"]


def _tondo(
    environment: dict[str, str], folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
