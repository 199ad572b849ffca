"""Cassandra nodes of the tests' own, from the jars of Maven's central repository."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import free_port
from tests.servers.process import ServerProcess, missing

ROOT = Path(__file__).resolve().parents[2]
VERSION = "5.0.6"
DATA_CENTRE = "datacenter1"
_START_SECONDS = 180

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tondo</groupId><artifactId>servers</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId>
    <version>{VERSION}</version>
  </dependency></dependencies>
</project>
"""

_EXPORTED = (
    "java.base/jdk.internal.misc java.base/jdk.internal.ref java.base/sun.nio.ch "
    "java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry "
    "java.rmi/sun.rmi.server java.sql/java.sql java.base/java.lang.ref "
    "java.base/jdk.internal.util.jar jdk.unsupported/sun.misc"
)
_OPENED = (
    "java.base/java.lang java.base/java.lang.module java.base/java.lang.reflect "
    "java.base/java.io java.base/java.net java.base/java.nio java.base/java.util "
    "java.base/java.util.concurrent java.base/java.util.concurrent.atomic "
    "java.base/sun.nio.ch java.base/jdk.internal.loader java.base/jdk.internal.math "
    "java.base/jdk.internal.module java.base/jdk.internal.ref java.base/jdk.internal.reflect "
    "java.base/jdk.internal.util.jar jdk.management/com.sun.management.internal"
)
_RING = {"cassandra.ring_delay_ms": "5000"}
_ALONE = {
    "cassandra.ring_delay_ms": "1000",
    "cassandra.superuser_setup_delay_ms": "0",
    "cassandra.skip_wait_for_gossip_to_settle": "0",
}


_PERIODIC = "commitlog_sync: periodic\ncommitlog_sync_period: 10000ms"
_BATCH = "commitlog_sync: batch"


class CassandraNode:
    """One node on an address of the loopback network; its data outlive ``kill``."""

    def __init__(
        self, folder: Path, address: str, ports: tuple[int, int], yaml: str, options: list[str]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.address, self.port = address, ports[0]
        self._folder, self._jmx = folder, free_port()
        options = [*options, f"-Dcassandra.jmx.local.port={self._jmx}"]
        config = folder / "cassandra.yaml"
        config.write_text(yaml)
        command = _command(config, folder, options)
        self.process = ServerProcess(command, folder / "cassandra.log", folder)

    def start(self) -> None:
        """Starts it, with the data that it had."""
        self.process.start(self._listens, _START_SECONDS)

    def tool(self, *given: str) -> None:
        """Does what an operator does with nodetool."""
        # It keeps what it was asked in a file below the home.
        command = _java([f"-Duser.home={self._folder}"], "org.apache.cassandra.tools.NodeTool")
        asked = subprocess.run(
            [*command, "-h", "127.0.0.1", "-p", str(self._jmx), *given],
            capture_output=True, text=True, timeout=_START_SECONDS, check=False,
        )  # fmt: skip
        assert asked.returncode == 0, asked.stderr

    def _listens(self) -> bool:
        try:
            socket.create_connection((self.address, self.port), 1).close()
        except OSError:
            return False
        return True


@contextmanager
def cassandra_nodes(
    folder: Path, number: int = 1, heap: str = "768m", durable: bool = False
) -> Iterator[list[CassandraNode]]:
    """So many running nodes, gone afterwards; skips, or fails in CI, without Java and Maven.

    A ``durable`` node acknowledges what is on its disk; others what they will have there within ten
    seconds, as Cassandra does unless told otherwise.
    """
    addresses = [f"127.0.0.{place}" for place in range(1, number + 1)]
    ports = _free_ports(addresses)
    options = [f"-Xms{heap}", f"-Xmx{heap}"]
    options += [f"-D{name}={value}" for name, value in (_ALONE if number == 1 else _RING).items()]
    nodes = []
    for address in addresses:
        yaml = _yaml(
            folder / address, address, ports, addresses[0], _BATCH if durable else _PERIODIC
        )
        nodes.append(CassandraNode(folder / address, address, ports, yaml, options))
    try:
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in nodes:
            node.process.kill()


def jars() -> Path:
    """The folder with Cassandra's jars, fetched if they are not there yet."""
    folder = Path(os.environ.get("TONDO_SERVERS_DIR", ROOT / ".servers")) / f"cassandra-{VERSION}"
    if shutil.which("java") is None:
        missing("Java", "apt-get install openjdk-17-jre-headless")
    if not (folder / "complete").exists():
        if shutil.which("mvn") is None:
            missing("Cassandra", "install Maven, which fetches its jars")
        _fetch(folder)
    return folder / "jars"


def _fetch(folder: Path) -> None:
    """Lets Maven copy the jars; one process at a time, and complete or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "complete").exists():
            return
        (folder / "pom.xml").write_text(_POM)
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={folder / 'jars'}"],
            cwd=folder, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        if done.returncode:
            missing("Cassandra", f"Maven could not fetch its jars: {done.stdout[-1_000:]}")
        (folder / "complete").touch()


def _command(yaml: Path, folder: Path, options: list[str]) -> list[str]:
    settings = {
        "cassandra.config": yaml.as_uri(),
        "cassandra.storagedir": str(folder),
        "cassandra-foreground": "yes",
        "jdk.attach.allowAttachSelf": "true",
        "java.io.tmpdir": str(folder),
        "io.netty.tryReflectionSetAccessible": "true",
    }
    options = [*options, "-XX:MaxDirectMemorySize=256m"]
    options += [f"-D{name}={value}" for name, value in settings.items()]
    return _java(options, "org.apache.cassandra.service.CassandraDaemon")


def _java(options: list[str], main: str) -> list[str]:
    """A program of Cassandra's, with what it needs of Java's inside."""
    exported = [f"--add-exports={name}=ALL-UNNAMED" for name in _EXPORTED.split()]
    opened = [f"--add-opens={name}=ALL-UNNAMED" for name in _OPENED.split()]
    return ["java", "-XX:+UseSerialGC", *options, *exported, *opened, "-cp", f"{jars()}/*", main]


def _yaml(folder: Path, address: str, ports: tuple[int, int], seeds: str, commitlog: str) -> str:
    return f"""
cluster_name: tests
num_tokens: 16
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
paxos_variant: v2
{commitlog}
commitlog_directory: {folder}/commitlog
data_file_directories: ['{folder}/data']
hints_directory: {folder}/hints
saved_caches_directory: {folder}/saved_caches
cdc_raw_directory: {folder}/cdc_raw
auto_snapshot: false
listen_address: {address}
rpc_address: {address}
storage_port: {ports[1]}
native_transport_port: {ports[0]}
concurrent_reads: 8
concurrent_writes: 8
key_cache_size: 8MiB
memtable_heap_space: 128MiB
memtable_offheap_space: 64MiB
networking_cache_size: 32MiB
file_cache_size: 32MiB
read_request_timeout: 5000ms
write_request_timeout: 5000ms
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "{seeds}:{ports[1]}"
"""


def _free_ports(addresses: Sequence[str]) -> tuple[int, int]:
    """Two ports that are free on every one of the addresses."""
    found: list[int] = []
    while len(found) < 2:
        with socket.socket() as probe:
            probe.bind((addresses[0], 0))
            port = int(probe.getsockname()[1])
        if port not in found and all(_is_free(address, port) for address in addresses):
            found.append(port)
    return found[0], found[1]


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind((address, port))
        return True
    return False


if __name__ == "__main__":
    print(jars())
