"""Versions on a running platform: made by jobs, moved by alias, refused when damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.installation import DEPLOYMENT, FAMILY, Installation
from tests.traffic import Body, Traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_alias_flips_fail_no_request(
    platform: Installation, served: int, second: int, movable: None, bodies: Sequence[Body]
) -> None:
    """The alias moves there and back under load: nothing fails, only deployed versions answer."""
    with Traffic(platform, bodies, connections=6, pause_s=0.01) as traffic:
        for version in (second, served, second, served):
            platform.tondo("models", "promote", f"{FAMILY}:{version}", "--reason", "scenario")
            traffic.answered_by(version)
    assert traffic.failures == {}
    assert traffic.versions == {served, second}
    moves = platform.data("models", "history", FAMILY)
    assert [move["to"] for move in moves][-4:] == [second, served, second, served]


def test_ray_job_submit_trains_a_version(platform: Installation, submitted: int) -> None:
    """Ray's own job command registers a version, and Gallery knows how it came to be."""
    shown = platform.data("models", "show", f"{FAMILY}:{submitted}")
    assert shown["version"] == submitted == 3
    assert shown["service"] == "arrival_delay"
    runs = platform.data("get", "Run")
    assert {run["status"]["phase"] for run in runs} == {"Succeeded"}
    assert submitted in {run["status"]["version"] for run in runs}


@contextmanager
def flipped(folder: Path) -> Iterator[None]:
    """One bit of the largest file of a package is another; as it was afterwards."""
    file = max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    whole, mode = file.read_bytes(), file.stat().st_mode
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    file.chmod(0o644)
    try:
        file.write_bytes(damaged)
        yield
    finally:
        file.write_bytes(whole)
        file.chmod(mode)


def package_of(platform: Installation, version: int) -> Path:
    """Where the package of a version lies."""
    digest = platform.data("models", "show", f"{FAMILY}:{version}")["digest"]
    (found,) = (path for path in (platform.home / "artifacts").rglob(digest) if path.is_dir())
    return found


def test_a_damaged_package_is_refused(
    platform: Installation, served: int, submitted: int, movable: None, bodies: Sequence[Body]
) -> None:
    """A flipped bit in a package: the reason is told, and the version before it goes on."""
    package = package_of(platform, submitted)
    with flipped(package), Traffic(platform, bodies, connections=2) as traffic:
        platform.tondo("models", "promote", f"{FAMILY}:{submitted}")
        platform.tondo("wait", DEPLOYMENT, "--for", "Degraded", "--timeout", "60")
        told = platform.tondo("why", DEPLOYMENT)
        assert f"version {submitted}" in told
        assert f"at {package} is not what was stored" in told
        assert "Hint: Restore it from a backup, or train again" in told
        (row,) = (r for r in platform.data("status") if r["process"] == DEPLOYMENT)
        assert row["running"] == f"version {served}"
        assert "Degraded" in row["why"]
        traffic.goes_on(50)
    assert traffic.failures == {}
    assert traffic.versions == {served}
    refused = platform.tondo("wait", DEPLOYMENT, "--for", "Steady", "--timeout", "0", exits=1)
    assert "is not what was stored" in refused
