"""What unit tests share: a small project, and a replica without Ray."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from features.online import Position, Served
from features.testing import ManualClock
from serving.access import OpenAccess
from serving.desired import DesiredModel, DesiredState
from serving.http import PredictionApp
from serving.model import LoadedModel, Version
from serving.monitoring.metrics import BatchedMetrics
from serving.plan import request_shape
from serving.prediction_log import BufferedLog
from serving.predictor import OnlineFeatures, Predictor
from serving.replica import Replica
from serving.slots import ModelSlots
from training.testing import START, flights_plan

DEFINITIONS = '''"""Definitions of a shop."""

from features import Entity, FeatureService, FeatureView, Source, col, count, hours, mean

card = Entity("card", key="card", description="A payment card.")
payments = Source(
    "payments",
    table="lake.payments",
    event_time="paid_at",
    schema={"card": str, "amount": float, "paid_at": "time"},
)
spending = FeatureView(
    "spending",
    entity=card,
    source=payments,
    owner="risk",
    features={"mean_3h": mean(col("amount")).over(hours(3)), "count_3h": count().over(hours(3))},
)
fraud = FeatureService("fraud", [spending])
'''
PROJECT = """apiVersion: tondo/v1
kind: Project
metadata: {name: shop, owner: risk}
spec: {tier: 2}
"""
MODEL = '''"""The model of the shop."""

from training.testing import flights_model

MODEL = flights_model(family="shop.fraud", service="fraud", owner="risk")
'''
DEPLOYMENT = """apiVersion: tondo/v1
kind: Deployment
metadata: {name: fraud}
spec: {family: shop.fraud, version: "@champion"}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A whole project: definitions, a model, a deployment."""
    folder = tmp_path / "shop"
    (folder / "models" / "fraud").mkdir(parents=True)
    (folder / "definitions.py").write_text(DEFINITIONS)
    (folder / "project.yaml").write_text(PROJECT)
    (folder / "deployment.yaml").write_text(DEPLOYMENT)
    (folder / "models" / "fraud" / "model.py").write_text(MODEL)
    return folder


PLAN = request_shape(flights_plan())
BODY = {
    "entities": {"carrier": "UA"},
    "request": {"distance": 100, "hour": 18, "dest": "BOS"},
}
ANSWER = [1.5, 3, 100.0, True, "BOS"]


class Reader:
    """Answers every row with the same features, or fails as a store does."""

    def __init__(self) -> None:
        self.served = Served(
            list(ANSWER), ["value"] * 5, ["none"] * 5, {"carrier_delay": Position(1, 10, (7,))}
        )
        self.failure: Exception | None = None
        self.asked: list[tuple[dict[str, object], int]] = []

    def read(self, rows: Sequence[dict[str, object]], q: Sequence[int]) -> list[Served]:
        """One answer per row."""
        if self.failure is not None:
            raise self.failure
        self.asked += zip(rows, q, strict=True)
        return [self.served for _ in rows]


class Runtime:
    """Scores a row with its first feature plus a version's own number."""

    def __init__(self, plus: float) -> None:
        self.plus = plus

    def predict(self, matrix: Any) -> Any:
        """One score per row."""
        return matrix[:, 0].astype(np.float64) + self.plus


class Exporter:
    """Keeps what was exported."""

    def __init__(self) -> None:
        self.counts: list[tuple[str, int, dict[str, str]]] = []

    def count(self, name: str, amount: int, labels: Any) -> None:
        """Adds to a counter."""
        self.counts.append((name, amount, dict(labels)))

    def observe(self, name: str, values: Any, labels: Any) -> None:
        """Takes values."""


class Sink:
    """Keeps what was logged, or fails."""

    def __init__(self) -> None:
        self.tables: list[tuple[str, pa.Table]] = []
        self.broken = False

    def write(self, table: str, records: pa.Table) -> None:
        """Keeps a batch."""
        if self.broken:
            raise OSError("no space left")
        self.tables.append((table, records))


class Bench:
    """A whole replica without Ray: predictor, slots, log, metrics and HTTP application."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.reader, self.sink, self.exporter = (
            *(ManualClock(START), Reader()),
            *(Sink(), Exporter()),
        )
        self.refused: dict[str, Exception] = {}
        self.loaded: list[str] = []
        self.log = BufferedLog(self.sink, capacity=4)
        self.metrics = BatchedMetrics(self.exporter)
        self.predictor = Predictor(self.clock, self.log, self.metrics)
        self.slots = ModelSlots(self.predictor, self.load, self.load_service)
        self.state_file = folder / "serving.json"
        self.app = PredictionApp(self.predictor, OpenAccess(), self.metrics)
        self.replica = Replica(
            *(self.predictor, self.slots, self.app, self.log, self.metrics, self.state_file)
        )

    def load(self, wanted: DesiredModel) -> LoadedModel:
        """A model whose score says its version."""
        if wanted.digest in self.refused:
            raise self.refused[wanted.digest]
        self.loaded.append(wanted.digest)
        version = Version("flights.late", wanted.version)
        prepare = _first_column
        runtime = Runtime(float(wanted.version))
        return LoadedModel(version, wanted.digest, PLAN, self.reader, prepare, runtime)

    def load_service(self, data: dict[str, Any]) -> OnlineFeatures:
        """The one feature service there is."""
        return OnlineFeatures(PLAN, self.reader)

    def serve(self, version: int, generation: int, digest: str = "") -> Any:
        """Pushes a desired state with one model."""
        model = DesiredModel("late", version, "/p", digest or f"d{version}")
        return self.replica.set_models(DesiredState((model,), (), generation))[0]

    def ask(
        self, path: str, body: object = BODY, method: str = "POST", **more: Any
    ) -> tuple[int, dict[str, str], Any]:
        """One HTTP request through the ASGI application: status, headers, JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        messages = more.get("messages") or [{"type": "http.request", "body": content}]
        return self.call(more.get("app", self.app), method, path, messages, more.get("query", b""))

    def call(
        self, app: Any, method: str, path: str, messages: list[dict[str, Any]], query: bytes = b""
    ) -> tuple[int, dict[str, str], Any]:
        """One request through any ASGI application."""
        return asyncio.run(_asgi(app, method, path, messages, query))


def _first_column(rows: Sequence[Sequence[object]]) -> Any:
    return np.array([[row[0]] for row in rows], dtype=np.float32)


async def _asgi(
    app: Any, method: str, path: str, messages: list[dict[str, Any]], query: bytes
) -> tuple[int, dict[str, str], Any]:
    sent: list[dict[str, Any]] = []
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(waiting)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": []}
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, json.loads(sent[1]["body"])


@pytest.fixture
def replica(tmp_path: Path) -> Bench:
    """A replica that serves version 1."""
    bench = Bench(tmp_path)
    bench.serve(1, 1)
    return bench
