"""Up, down and taken ports; the same thing asked twice."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil
import pytest

from tests.installation import FAMILY, Installation, installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_up_again_is_nothing_to_do(platform: Installation) -> None:
    """A second ``up`` exits 0, says so, and leaves every process alone."""
    before = {process.pid for process in platform.processes()}
    assert platform.tondo("up").startswith("nothing to do: ")
    assert {process.pid for process in platform.processes()} >= before


def test_down_twice_is_nothing_to_do(tmp_path: Path) -> None:
    """``down`` where nothing is up exits 0 and says so."""
    with installed(tmp_path) as empty:
        assert empty.tondo("down") == "nothing to do: nothing is up\n"
        assert empty.tondo("down") == "nothing to do: nothing is up\n"


def test_the_same_file_again_is_nothing_to_do(platform: Installation, autumn: Path) -> None:
    """A file that was ingested before exits 0, says so, and adds no row."""
    file = str(autumn / "weather.parquet")
    assert platform.tondo("features", "ingest", "weather", file).startswith("nothing to do: ")
    assert platform.data("features", "ingest", "weather", file)["rows"] == 0


def test_apply_again_is_nothing_to_do(platform: Installation) -> None:
    """The same project again exits 0 and says so."""
    (source,) = (row["metadata"]["origin"] for row in platform.data("get", "Project"))
    assert platform.tondo("apply", source, "--yes").startswith("nothing to do: ")
    assert platform.tondo("models", "promote", f"{FAMILY}:1").startswith(("nothing to do: ", "cha"))


@pytest.mark.parametrize("variable", ["TONDO_HTTP_PORT", "TONDO_RAY_PORT"])
def test_a_taken_port_stops_up(tmp_path: Path, variable: str) -> None:
    """``up`` exits 1, names the port, its holder and its setting, and leaves nothing running."""
    with installed(tmp_path) as other, socket.socket() as taken:
        taken.bind(("127.0.0.1", other.port(variable)))
        taken.listen()
        told = other.tondo("up", exits=1)
        assert f"port {other.port(variable)}" in told
        assert f"process {psutil.Process().pid}" in told
        assert f"Hint: End that process, or choose another port: {variable}=" in told
        assert not (other.home / "run" / "cluster.json").exists()
        assert children_of(other) == []


def test_the_port_of_another_platform_is_taken(platform: Installation, tmp_path: Path) -> None:
    """A second home on the first one's ports is refused, and the first one never notices."""
    before = {process.pid for process in platform.processes()}
    mine = {**platform.environment, "TONDO_HOME": str(tmp_path / "home")}
    told = Installation(mine, tmp_path).tondo("up", exits=1)
    assert f"port {platform.port('TONDO_HTTP_PORT')}" in told
    assert {process.pid for process in platform.processes()} >= before
    assert platform.tondo("up").startswith("nothing to do: ")


def children_of(installation: Installation) -> list[int]:
    """Processes that were told of that home."""
    home, found = str(installation.home), []
    for process in psutil.process_iter():
        try:
            found += [process.pid] if process.environ().get("TONDO_HOME") == home else []
        except (psutil.Error, OSError):
            continue
    return found
