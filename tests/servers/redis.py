"""A Redis of the tests' own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.conftest import free_port
from tests.servers.process import ServerProcess, missing

_START_SECONDS = 30


class RedisServer:
    """A Redis that acknowledges what is on the disk; its data outlive ``kill``."""

    def __init__(self, folder: Path) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            missing("redis-server", "apt-get install redis-server")
        self.port = free_port()
        self.process = ServerProcess(
            [
                str(binary), "--port", str(self.port), "--bind", "127.0.0.1",
                "--dir", str(folder), "--save", "", "--appendonly", "yes",
                "--appendfsync", "always", "--maxmemory-policy", "noeviction",
            ],
            folder / "redis.log",
            folder,
        )  # fmt: skip

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts it, with the data that it had."""
        self.process.start(self._is_ready, _START_SECONDS)

    def _is_ready(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """A running Redis, gone afterwards; skips, or fails in CI, where there is none."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.process.kill()
