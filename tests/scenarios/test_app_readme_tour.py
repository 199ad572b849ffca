"""The README's tour of five minutes, run line by line as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tour_runs_as_it_stands(tmp_path: Path) -> None:
    """Each line of the tour exits 0 in a copy of the checkout with an empty home."""
    folder = _checkout(tmp_path / "tour")
    ray = tempfile.mkdtemp(prefix="tondo-ray-")
    environment = _environment(ray)
    try:
        for line in _tour():
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
    finally:
        down = [sys.executable, "-m", "app.cli", "down"]
        subprocess.run(down, cwd=folder, env=environment, timeout=120, check=False)
        shutil.rmtree(ray, ignore_errors=True)
    assert (folder / ".tondo" / "joined.parquet").is_file()


def _tour() -> list[str]:
    """The commands of the tour; the set-up is this very environment, so it is not made again."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert lines[:2] == ["make setup", ". .venv/bin/activate"]
    return lines[2:]


def _checkout(folder: Path) -> Path:
    """A folder that looks like the checkout's root but keeps its own state in ``.tondo``."""
    folder.mkdir()
    for name in ("app", "actors", "configs", "examples", "features", "serving", "training"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "genai_gateway").symlink_to(ROOT / "genai_gateway")
    return folder


def _environment(ray: str) -> dict[str, str]:
    """Free ports, and no ``TONDO_HOME``: the tour uses the default, ``.tondo``, where it runs."""
    inherited = {name: value for name, value in os.environ.items() if name != "TONDO_HOME"}
    replicas = _free_port()
    return {
        **inherited,
        **{name: str(_free_port()) for name in PORTS},
        "TONDO_SERVING_FIRST_REPLICA_PORT": str(replicas),
        "TONDO_SERVING_LAST_REPLICA_PORT": str(min(replicas + 200, 65_535)),
        "TONDO_RAY_TEMP_DIR": ray,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
