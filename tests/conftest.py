"""What all tests share: a home, a way to run ``tondo``, one Ray for who needs it, real flights."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.online_promises", "tests.online_scripts")

ROOT = Path(__file__).resolve().parent.parent
ON_RAY = ("integration", "scenarios")

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci", max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that may start Ray, by their folder, so that ``-m 'not ray'`` leaves them."""
    for item in items:
        if item.path.relative_to(ROOT / "tests").parts[0] in ON_RAY:
            item.add_marker(pytest.mark.ray)


@pytest.fixture(autouse=True)
def tondo_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty TONDO_HOME for every test, so that none can reach the user's own."""
    home = tmp_path / "home"
    monkeypatch.setenv("TONDO_HOME", str(home))
    return home


@dataclass(frozen=True)
class Ran:
    """What one run of the command line said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The JSON on standard output."""
        return json.loads(self.out)


Tondo = Callable[..., Ran]


@pytest.fixture
def tondo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tondo:
    """Runs ``tondo`` in this process, in an empty folder, as a script would."""
    from app.cli import run

    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def runs(*arguments: object) -> Ran:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return runs


@pytest.fixture(scope="session")
def flights_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's four Parquet files, made once."""
    from examples.flights.prepare import write_sources

    folder = tmp_path_factory.mktemp("flights")
    write_sources(folder)
    return folder


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray for all tests that need it, with the flags that serving wants; gone afterwards.

    It joins no cluster that is already there, and its ports are free ones.
    """
    import ray
    from ray import serve

    with _short_folder() as folder, pytest.MonkeyPatch.context() as patch:
        for name, value in _ray_environment(folder).items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(address="local", num_cpus=8, include_dashboard=False, _temp_dir=str(folder))
        try:
            yield
        finally:
            serve.shutdown()
            ray.shutdown()


@contextmanager
def _short_folder() -> Iterator[Path]:
    # Paths of Unix sockets may have 107 bytes: pytest's own temporary folders are too deep.
    with tempfile.TemporaryDirectory(prefix="tondo-ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _ray_environment(folder: Path) -> dict[str, str]:
    from serving.on_ray import serve_environment

    run = folder / "run"
    run.mkdir()
    first = free_port()
    flags = serve_environment(
        str(run),
        metrics_port=free_port(),
        stats_port=free_port(),
        ports=(first, min(first + 200, 65_535)),
    )
    inherited = os.environ.get("PYTHONPATH", "")
    path = f"{ROOT}{os.pathsep}{inherited}" if inherited else str(ROOT)
    return {**flags, "PYTHONPATH": path, "RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
