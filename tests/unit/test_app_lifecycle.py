"""Ports, processes, the record of the cluster, and the doctor; no Ray is started here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from app.compose import Platform, open_platform, platform_at
from app.errors import Conflict, DamagedData
from app.lifecycle.cluster import (
    Cluster,
    read_cluster,
    running_cluster,
    same_process,
    write_cluster,
)
from app.lifecycle.doctor import examine
from app.lifecycle.down import down
from app.lifecycle.ports import NeededPort, check_ports, free_port, holder, is_free, needed_ports
from app.lifecycle.processes import end, lives, processes_of
from app.lifecycle.status import status
from app.settings import CLUSTER_VARIABLE


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    """An empty installation whose ports are free ones."""
    for needed in needed_ports(open_platform().settings):
        monkeypatch.setenv(needed.variable, str(free_port()))
    return open_platform()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own that lives until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, CLUSTER_VARIABLE: "c0ffee"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def record(platform: Platform, pid: int = 0, started_at: float = 0.0) -> Cluster:
    """A cluster that is on record for the installation."""
    cluster = Cluster(
        id="c0ffee",
        address="127.0.0.1:1",
        dashboard="http://127.0.0.1:1",
        home=str(platform.home.root),
        settings=platform.settings.model_dump(mode="json"),
        pid=pid,
        started_at=started_at,
    )
    write_cluster(platform.home.cluster, cluster)
    return cluster


def born(process: subprocess.Popen[bytes]) -> float:
    """When a process began."""
    return psutil.Process(process.pid).create_time()


def quiet(what: str, done: int, total: int) -> None:
    """Reports to nobody."""


def test_a_taken_port_is_told_with_its_holder(platform: Platform) -> None:
    """Conflict names the port, what it is for, who has it, and the setting that moves it."""
    check_ports(platform.settings)
    with socket.create_server(("127.0.0.1", platform.settings.http.port)):
        with pytest.raises(Conflict) as caught:
            check_ports(platform.settings)
        findings = {f.check: f for f in examine(platform)}
    assert str(platform.settings.http.port) in caught.value.what
    assert f"process {os.getpid()}" in caught.value.what
    assert "TONDO_HTTP_PORT" in caught.value.hint
    finding = findings[f"port {platform.settings.http.port}"]
    assert (finding.state, "TONDO_HTTP_PORT" in finding.hint) == ("broken", True)


def test_a_port_taken_on_every_interface_is_not_free() -> None:
    """Somebody on 0.0.0.0 would be met on loopback."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(NeededPort(port, "a test", "X"))
    assert is_free(NeededPort(port, "a test", "X"))
    assert holder(port) == "a process that this user cannot see"


def test_every_port_has_a_setting_that_moves_it(platform: Platform) -> None:
    """The variables that errors name exist, and moved every port in this very test."""
    ports = [needed.port for needed in needed_ports(platform.settings)]
    assert ports == [int(os.environ[n.variable]) for n in needed_ports(platform.settings)]


def test_a_cluster_is_what_was_written(platform: Platform) -> None:
    """The record survives the trip, readable by its owner only."""
    cluster = record(platform)
    assert read_cluster(platform.home.cluster) == cluster
    assert platform.home.cluster.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": "x"}', '{"unknown": 1}'])
def test_a_damaged_record_is_told(platform: Platform, content: str) -> None:
    """A record that cannot be read is an error that says what to do."""
    platform.home.run.mkdir(parents=True)
    platform.home.cluster.write_text(content)
    with pytest.raises(DamagedData) as caught:
        read_cluster(platform.home.cluster)
    assert "Remove it" in caught.value.hint


def test_a_process_id_given_away_again_is_not_the_process(
    platform: Platform, child: subprocess.Popen[bytes]
) -> None:
    """The same number with another birth is somebody else."""
    assert same_process(child.pid, born(child))
    assert not same_process(child.pid, born(child) - 100)
    record(platform, child.pid, born(child) - 100)
    assert running_cluster(platform.home.cluster) is None


def test_a_dead_cluster_is_not_running(platform: Platform, child: subprocess.Popen[bytes]) -> None:
    """A first process that died, reaped or not, is no cluster; status says so."""
    record(platform, child.pid, born(child))
    assert running_cluster(platform.home.cluster) is not None
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert running_cluster(platform.home.cluster) is None
    (row,) = status(platform)
    assert (row.desired, row.running) == ("up", "down")
    assert "tondo up" in row.why


def test_down_clears_what_a_dead_cluster_left(
    platform: Platform, child: subprocess.Popen[bytes]
) -> None:
    """Its processes are ended, its record is gone, and a second down has nothing to do."""
    record(platform, pid=1, started_at=1.0)
    birth = born(child)
    assert [p.pid for p in processes_of(_known(platform))] == [child.pid]
    assert down(platform, quiet) == "down: 1 processes ended"
    assert not same_process(child.pid, birth)
    assert down(platform, quiet) == "nothing to do: nothing is up"


def test_down_does_not_wait_for_a_head_that_dies(
    platform: Platform, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever connects to a head in that moment is never answered; down goes on without."""
    record(platform, child.pid, born(child))

    def connect(_: Cluster) -> None:
        child.kill()
        child.wait()
        threading.Event().wait()

    monkeypatch.setattr("app.lifecycle.down.connect", connect)
    assert down(platform, quiet) == "nothing to do: it had ended already"
    assert running_cluster(platform.home.cluster) is None


def test_other_processes_are_not_the_cluster(
    platform: Platform, child: subprocess.Popen[bytes]
) -> None:
    """Neither this process nor one with another mark is ever taken for a part of it."""
    other = replace(record(platform), id="other")
    assert child.pid not in [p.pid for p in processes_of(other)]
    session = replace(record(platform, child.pid, born(child)), id="other")
    assert [p.pid for p in processes_of(session)] == [child.pid]


def test_a_process_that_will_not_end_is_made_to(platform: Platform) -> None:
    """Who ignores the request is killed after the grace."""
    code = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        stubborn = psutil.Process(process.pid)
        assert end([stubborn], grace_s=0.2) == []
        assert not lives(stubborn)


def test_settings_in_force_are_those_of_the_cluster(
    platform: Platform, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a cluster is up its settings say where things listen, whatever is set now."""
    record(platform, child.pid, born(child))
    monkeypatch.setenv("TONDO_HTTP_PORT", "4321")
    assert open_platform().settings == platform.settings
    assert platform_at(platform.home.root).settings == platform.settings
    platform.home.cluster.unlink()
    assert open_platform().settings.http.port == 4321


def test_a_healthy_installation_has_nothing_broken(platform: Platform) -> None:
    """Every check is there, and none is broken."""
    findings = examine(platform)
    assert [f for f in findings if f.state == "broken"] == []
    names = {finding.check for finding in findings}
    assert {"python", "packages", "home", "disk", "online store", "lake", "operator key"} <= names


def test_the_doctor_sees_a_key_that_others_can_read(platform: Platform) -> None:
    """An operator key of mode 644, or one that is not in force, is broken and can be mended."""
    path = platform.home.operator_key
    path.parent.mkdir(parents=True)
    path.write_text(platform.keys().create("operator"))
    path.chmod(0o644)
    found = {f.check: f for f in examine(platform)}["operator key"]
    assert (found.state, found.hint) == ("broken", f"chmod 600 {path}")
    path.chmod(0o600)
    assert {f.check: f for f in examine(platform)}["operator key"].state == "ok"
    platform.keys().revoke("operator")
    assert {f.check: f for f in examine(platform)}["operator key"].state == "broken"


def test_the_doctor_says_what_listens_everywhere(platform: Platform) -> None:
    """The pages that no setting binds to loopback are told."""
    found = {f.check: f for f in examine(platform)}["bindings"]
    assert found.state == "notice"
    assert str(platform.settings.serving.haproxy_metrics_port) in found.found


def _known(platform: Platform) -> Cluster:
    cluster = read_cluster(platform.home.cluster)
    assert cluster is not None
    return cluster


def test_a_command_has_the_environment_of_its_cluster(
    platform: Platform, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray reads it when it is imported, so it is there before anything could import Ray."""
    monkeypatch.setenv("TEST_OF_THE_CLUSTER", "before")
    cluster = record(platform, child.pid, born(child))
    told = replace(cluster, environment={"TEST_OF_THE_CLUSTER": "of the cluster"})
    write_cluster(platform.home.cluster, told)
    open_platform()
    assert os.environ["TEST_OF_THE_CLUSTER"] == "of the cluster"
