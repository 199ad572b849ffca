"""The gateway on Ray: one Serve application under ``/llm``, and the ledger as one named actor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.util import metrics as ray_metrics

from genai_gateway.clock import SystemClock
from genai_gateway.http import GatewayApp
from genai_gateway.money.ledger import Ask, Balance, Batch, Grant
from genai_gateway.money.sqlite import SqliteLedger

APP = "tondo-llm"
DEPLOYMENT = "Gateway"
LEDGER = "tondo:ledger"
BuildGateway = Callable[[str], GatewayApp]
OpenLane = Callable[[GatewayApp], None]

_BUCKETS_MS = (0.5, 1, 2, 3, 5, 7.5, 10, 20, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000)


class LedgerActor:
    """Carries the ledger's file; it is restarted for ever, and goes on where the file ends."""

    def __init__(self, path: str) -> None:
        self._ledger = SqliteLedger(SystemClock(), Path(path))

    async def grant(self, replica: str, asks: Sequence[Ask]) -> list[Grant]:
        """A grant for each wish, in order."""
        return await self._ledger.grant(replica, asks)

    async def report(self, replica: str, batch: Batch) -> None:
        """Books a batch."""
        await self._ledger.report(replica, batch)

    async def balances(self) -> list[Balance]:
        """How every account stands."""
        return await self._ledger.balances()


class RayLedger:
    """The ledger's port, kept by the named actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def grant(self, replica: str, asks: Sequence[Ask]) -> list[Grant]:
        """A grant for each wish, in order."""
        granted: list[Grant] = await self._actor.grant.remote(replica, asks)
        return granted

    async def report(self, replica: str, batch: Batch) -> None:
        """Books a batch."""
        await self._actor.report.remote(replica, batch)

    async def balances(self) -> list[Balance]:
        """How every account stands."""
        found: list[Balance] = await self._actor.balances.remote()
        return found


def start_ledger(path: Path, namespace: str) -> Any:
    """The ledger's actor, started if it is not there."""
    actor = ray.remote(LedgerActor).options(
        name=LEDGER,
        namespace=namespace,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=-1,
        num_cpus=0,
    )
    return actor.remote(str(path))


def find_ledger(namespace: str) -> Any:
    """The ledger's actor. Raises ValueError if it is not there."""
    return ray.get_actor(LEDGER, namespace=namespace)


def stop_ledger(namespace: str) -> None:
    """Ends the ledger's actor; its file stays."""
    ray.kill(find_ledger(namespace), no_restart=True)


def balances(namespace: str, timeout_s: float = 10.0) -> list[Balance]:
    """How every account stands, asked from outside."""
    found: list[Balance] = ray.get(find_ledger(namespace).balances.remote(), timeout=timeout_s)
    return found


class GatewayReplica:
    """The Serve deployment: one process, one gateway."""

    def __init__(self, build: BuildGateway, open_lane: OpenLane | None) -> None:
        self._app = build(uuid4().hex[:12])
        if open_lane is not None:
            open_lane(self._app)

    def __serve_build_asgi_app__(self) -> object:
        """The application Serve mounts; it answers what does not come by the lane."""
        return self._app

    async def check_health(self) -> None:
        """Healthy as long as the process answers."""


def deploy(
    build: BuildGateway,
    *,
    open_lane: OpenLane | None = None,
    replicas: int = 1,
    num_cpus: float = 0.5,
    max_in_flight: int = 1024,
    route_prefix: str = "/llm",
) -> DeploymentHandle[Any]:
    """Runs the gateway and waits until it is ready; deploying it again updates it.

    ``build`` makes a gateway inside its process from the replica's name. ``open_lane`` may take
    requests past Serve's own request path. Both must be importable there.
    """
    deployment = serve.deployment(
        name=DEPLOYMENT,
        num_replicas=replicas,
        max_ongoing_requests=max_in_flight,
        max_queued_requests=max_in_flight,
        ray_actor_options={"num_cpus": num_cpus},
        health_check_period_s=1,
        graceful_shutdown_timeout_s=5,
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )(serve.ingress()(GatewayReplica))
    return serve.run(deployment.bind(build, open_lane), name=APP, route_prefix=route_prefix)


class RayMeters:
    """Metrics through ``ray.util.metrics``, onto Ray's Prometheus endpoint."""

    def __init__(self) -> None:
        self._counters: dict[str, ray_metrics.Counter] = {}
        self._histograms: dict[str, ray_metrics.Histogram] = {}

    def count(self, name: str, amount: int, labels: Mapping[str, str]) -> None:
        """Adds to a counter."""
        if name not in self._counters:
            self._counters[name] = ray_metrics.Counter(name, tag_keys=tuple(labels))
        self._counters[name].inc(amount, dict(labels))

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Adds a value to a histogram."""
        if name not in self._histograms:
            self._histograms[name] = ray_metrics.Histogram(
                name, boundaries=list(_BUCKETS_MS), tag_keys=tuple(labels)
            )
        self._histograms[name].observe(value, dict(labels))


def batch_answers(
    rows: Any, build: Callable[[], Callable[[dict[str, Any]], dict[str, Any]]], concurrency: int = 2
) -> Any:
    """A Ray dataset with an answer for each row, through the same policies as online requests.

    ``build`` makes the function that answers a row; it is called once in each worker.
    """
    return rows.map(_Answering, fn_constructor_args=(build,), concurrency=concurrency)


class _Answering:
    def __init__(self, build: Callable[[], Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
        self._answer = build()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return self._answer(row)
