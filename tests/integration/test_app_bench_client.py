"""The load generator counts whole answers, however they are framed and however they arrive."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest

from app.bench.serving import Target, build_client, request_bytes

SIZED = [b"HTTP/1.1 200 OK\r\nContent-Le", b'ngth: 10\r\n\r\n{"a": ', b"[1]}"]
CHUNKED = [
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    b'4\r\n{"a"\r\n',
    b"6\r\n: [1]}\r\n0\r\n",
    b"\r\n",
]
REFUSED = [b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The load generator, compiled."""
    return build_client(tmp_path_factory.mktemp("client"))


@contextmanager
def serving(parts: list[bytes]) -> Iterator[tuple[int, list[int]]]:
    """A server that gives this answer, part by part; its port, and a place for every request."""
    asked: list[int] = []

    class Handler(StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            """Answers one request after another until the client leaves, in whatever midst."""
            with suppress(ConnectionError):
                while self.rfile.readline():
                    self._answer()

        def _answer(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.rfile.read(2)
            asked.append(1)
            for part in parts:
                self.wfile.write(part)
                self.wfile.flush()

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()
            thread.join()


def load(client: Path, folder: Path, port: int) -> dict[str, int]:
    """What two connections measured in a moment."""
    requests = folder / "requests"
    requests.write_bytes(request_bytes(Target(f"http://127.0.0.1:{port}/p", [b"{}"])))
    command = [str(client), "127.0.0.1", str(port), "2", "0.3", str(requests)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=60)
    measured: dict[str, int] = json.loads(done.stdout)
    return measured


@pytest.mark.parametrize("parts", [SIZED, CHUNKED], ids=["sized", "chunked"])
def test_an_answer_in_parts_counts_once(client: Path, tmp_path: Path, parts: list[bytes]) -> None:
    """Every request has one answer, but for those under way at the end; none is an error."""
    with serving(parts) as (port, asked):
        measured = load(client, tmp_path, port)
    assert measured["requests"] > 0
    assert (measured["errors"], measured["reconnects"]) == (0, 0)
    assert len(asked) - 2 <= measured["requests"] <= len(asked)


def test_what_is_not_200_is_an_error(client: Path, tmp_path: Path) -> None:
    """A refusal is counted, not taken for an answer."""
    with serving(REFUSED) as (port, _):
        measured = load(client, tmp_path, port)
    assert measured["errors"] == measured["requests"] > 0
