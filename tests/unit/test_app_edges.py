"""The edges of the control plane: requests to the service, candidates, prediction tables, jobs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import psutil
import pyarrow as pa
import pytest

from app.compose import Platform, open_platform
from app.errors import AppError, BadInput, NotFound, Unavailable
from app.http import ask_service
from app.jobs import _failed
from app.lifecycle.cluster import Cluster, write_cluster
from app.prediction_table import LakePredictions, tables_of
from app.training_jobs import new_run_id, read_settings
from features.offline.memory import MemoryLake

TABLE = "lake.predictions_shop_fraud"


class Service(BaseHTTPRequestHandler):
    """Answers every request with the next of the answers that a test lays out."""

    answers: ClassVar[list[tuple[int, bytes]]] = []
    asked: ClassVar[list[tuple[str, str, Any]]] = []

    def do_POST(self) -> None:
        """Takes a request and keeps what it said."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers.get("Authorization", ""), body))
        status, answer = self.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def serving(*answers: tuple[int, bytes]) -> Iterator[Platform]:
    """An installation that is up, with a service that gives these answers."""
    Service.answers, Service.asked = list(answers), []
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield up(f"http://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()


def up(http: str) -> Platform:
    """An installation on record as up, its service at that address."""
    platform = open_platform()
    me = psutil.Process()
    settings = platform.settings.model_dump(mode="json")
    home = str(platform.home.root)
    cluster = Cluster("x", "", "", home, settings, me.pid, me.create_time(), http=http)
    write_cluster(platform.home.cluster, cluster)
    return platform


def test_a_request_carries_the_operators_key() -> None:
    """The command line needs no key to be typed."""
    with serving((200, b'{"predictions": [0.5]}')) as platform:
        platform.home.operator_key.parent.mkdir(parents=True)
        platform.home.operator_key.write_text("secret\n")
        assert ask_service(platform, "/v1/x", {"a": 1}) == {"predictions": [0.5]}
    assert Service.asked == [("/v1/x", "Bearer secret", {"a": 1})]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, BadInput), (404, NotFound), (401, AppError), (503, Unavailable), (500, Unavailable)],
)
def test_a_problem_comes_back_as_the_error_that_it_tells_of(
    status: int, kind: type[AppError]
) -> None:
    """What and hint survive the trip over HTTP."""
    body = json.dumps({"title": "t", "detail": "what", "hint": "hint"}).encode()
    with serving((status, body)) as platform, pytest.raises(kind) as caught:
        ask_service(platform, "/v1/x", {})
    assert (caught.value.what, caught.value.hint) == ("what", "hint")


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff", b""])
def test_a_problem_of_somebody_else_is_told_with_its_status(body: bytes) -> None:
    """HAProxy's own pages are not JSON."""
    with serving((502, body)) as platform, pytest.raises(Unavailable, match="HTTP 502"):
        ask_service(platform, "/v1/x", {})


def test_nobody_there_is_told() -> None:
    """Nothing up, and something up that does not answer, are told apart."""
    with pytest.raises(Unavailable, match="nothing is up"):
        ask_service(open_platform(), "/v1/x", {})
    with serving() as platform:
        pass
    with pytest.raises(Unavailable, match="does not answer"):
        ask_service(platform, "/v1/x", {})


def test_a_failed_job_tells_its_own_error() -> None:
    """The last error and hint in a job's log are the job's error; else its last line is."""
    told = _failed("j", "FAILED", "x\nError: no rows\nHint: ingest first\n\n")
    assert (told.what, told.hint) == ("no rows", "ingest first")
    assert "last words" in _failed("j", "STOPPED", "first\nlast words\n").what
    assert "it wrote nothing" in _failed("j", "FAILED", "").what


def test_settings_of_a_run_are_numbers_where_they_look_so() -> None:
    """k=v from the command line becomes numbers, booleans or text; nonsense is refused."""
    given = {"a": "3", "b": "0.5", "c": "true", "d": "gpu_hist"}
    assert read_settings(given) == {"a": 3, "b": 0.5, "c": True, "d": "gpu_hist"}
    with pytest.raises(BadInput):
        read_settings({"a": "[1"})


def test_run_ids_do_not_repeat() -> None:
    """Two runs that begin in the same second have names of their own."""
    assert len({new_run_id("shop.fraud") for _ in range(20)}) == 20


def test_predictions_of_other_columns_go_beside() -> None:
    """A version that reads other features does not stop the log; its rows have their own table."""
    lake = MemoryLake()
    predictions = LakePredictions(lake)
    old, new = pa.table({"a": [1]}), pa.table({"a": [1], "b": [2.0]})
    for digest, rows in (("d1", old), ("d2", new), ("d3", old), ("d4", new)):
        assert not predictions.has(TABLE, digest)
        predictions.append(TABLE, rows, digest)
        assert predictions.has(TABLE, digest)
    tables = tables_of(lake, TABLE)
    assert [lake.describe(table).rows for table in tables] == [2, 2]
    assert tables[0] == TABLE


def test_tables_of_a_family_are_not_those_of_its_neighbour() -> None:
    """A family whose name begins like another's keeps its own predictions."""
    lake = MemoryLake()
    predictions = LakePredictions(lake)
    for table in (TABLE, f"{TABLE}_v2", f"{TABLE}_vip"):
        predictions.append(table, pa.table({"a": [1]}), table)
    assert tables_of(lake, TABLE) == [TABLE]
    assert not predictions.has(TABLE, f"{TABLE}_v2")


def test_nothing_is_in_a_table_that_is_not_there() -> None:
    """Before the first batch there is no table to look into."""
    assert not LakePredictions(MemoryLake()).has(TABLE, "d")
