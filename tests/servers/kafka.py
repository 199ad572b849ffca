"""A Kafka of the tests' own, of one node, from the jars of Maven's central repository."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import free_port
from tests.servers.process import ServerProcess, missing

ROOT = Path(__file__).resolve().parents[2]
VERSION = "4.1.1"
_SCALA = "2.13"
_READY = "Kafka Server started"
_START_SECONDS = 120
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tondo</groupId><artifactId>servers</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_{_SCALA}</artifactId>
      <version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
_JAVA = ("java", "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class KafkaServer:
    """One broker that is its own controller; its data outlive ``kill``."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._settings = folder / "server.properties"
        self._settings.write_text(_properties(folder, self.port, free_port()))
        self._log = folder / "kafka.log"
        self._skip = 0
        self.process = ServerProcess(
            _command("kafka.Kafka", str(self._settings)), self._log, folder
        )

    @property
    def servers(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def format(self) -> None:
        """Makes its folder, empty."""
        given = ["format", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAA", "--standalone"]
        tool = _command("kafka.tools.StorageTool", *given, "-c", str(self._settings))
        subprocess.run(tool, cwd=self._folder, capture_output=True, timeout=60, check=True)

    def start(self) -> None:
        """Starts it, with the data that it had."""
        self._skip = self._log.stat().st_size if self._log.exists() else 0
        self.process.start(self._is_ready, _START_SECONDS)

    def _is_ready(self) -> bool:
        return _READY in self._log.read_bytes()[self._skip :].decode(errors="replace")


@contextmanager
def kafka_server(folder: Path) -> Iterator[KafkaServer]:
    """A running Kafka, gone afterwards; skips, or fails in CI, without Java and Maven."""
    jars()
    server = KafkaServer(folder)
    server.format()
    server.start()
    try:
        yield server
    finally:
        server.process.kill()


def jars() -> Path:
    """The folder with Kafka's jars, fetched if they are not there yet."""
    folder = Path(os.environ.get("TONDO_SERVERS_DIR", ROOT / ".servers")) / f"kafka-{VERSION}"
    if shutil.which("java") is None:
        missing("Java", "apt-get install openjdk-17-jre-headless")
    if not (folder / "complete").exists():
        if shutil.which("mvn") is None:
            missing("Kafka", "install Maven, which fetches its jars")
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
            missing("Kafka", f"Maven could not fetch its jars: {done.stdout[-1_000:]}")
        (folder / "complete").touch()


def _command(main: str, *given: str) -> list[str]:
    return [*_JAVA, "-cp", f"{jars()}/*", main, *given]


def _properties(folder: Path, port: int, controller: int) -> str:
    return f"""
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
log.segment.delete.delay.ms=0
log.retention.check.interval.ms=200
log.initial.task.delay.ms=100
"""


if __name__ == "__main__":
    print(jars())
