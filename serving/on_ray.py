"""Serving on Ray: the Serve application behind HAProxy, and what the cluster must be told first."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.util import metrics as ray_metrics

from serving.desired import DesiredState
from serving.http import FastLane
from serving.logs import log_as_json
from serving.monitoring.metrics import LATENCY_BUCKETS_MS
from serving.prediction_log import LogCounts
from serving.replica import Replica
from serving.requests import parse_json

APP = "tondo"
DEPLOYMENT = "Predictor"
BuildReplica = Callable[[], Replica]

_log = logging.getLogger("tondo.serving")


def serve_environment(
    run: str,
    *,
    metrics_port: int = 9101,
    stats_port: int = 8404,
    ports: tuple[int, int] = (30000, 31000),
) -> dict[str, str]:
    """What must stand in the environment of the Ray head, the controller and every replica.

    ``run`` is a directory for HAProxy's files. HAProxy's metrics and stats pages bind every
    interface by Ray's template whatever is set here.
    """
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # The control actor and scripts call handles from threads without an event loop.
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "1",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_worker_niceness": "0",
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10",
        "RAY_SERVE_REQUEST_LATENCY_BUCKETS_MS": "0.25,0.5,0.75,1,1.5,2,3,5,7.5,10,20,50,100,1000",
        # Predictions go past Serve's own request path (see serving/http.py).
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.http.ingress_middlewares",
        # A prediction is safe to repeat. HAProxy repeats one whose replica died only if it holds
        # the whole request, so it buffers the body; and it waits min(1 s, connect timeout) before
        # it tries again, so that timeout is short. Both lines ride in on the value before them.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response\n    option http-buffer-request",
        "RAY_SERVE_HAPROXY_RETRIES": "3",
        "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": "leastconn\n    timeout connect 100ms",
        "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_FASTINTER": "100ms",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_DOWNINTER": "100ms",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports[1]),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{run}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{run}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": run,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{run}/server-state",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{run}/metrics.sock",
    }


class PredictorReplica:
    """The Serve deployment: one replica process, one predictor, opened from disk when it starts."""

    def __init__(self, build: BuildReplica) -> None:
        log_as_json(_log)
        _listen_on_own_address()
        self._replica = build()
        self._replica.start()
        _spare_the_collector()
        FastLane.open(self._replica.app)

    def __serve_build_asgi_app__(self) -> object:
        """The application Serve mounts; it answers what does not come by the lane."""
        return self._replica.app

    async def predict(
        self, model: str, body: bytes | dict[str, Any], request_id: str = "", explain: bool = False
    ) -> dict[str, object]:
        """A prediction by handle; the same handler as over HTTP."""
        given = parse_json(body) if isinstance(body, bytes) else body
        return self._replica.predictor.predict(model, given, request_id, explain=explain)

    async def features(
        self, service: str, body: dict[str, Any], request_id: str = "", explain: bool = False
    ) -> dict[str, object]:
        """Online features by handle."""
        return self._replica.predictor.features(service, body, request_id, explain=explain)

    async def set_models(self, state: dict[str, Any]) -> list[dict[str, object]]:
        """Serves a desired state; returns this replica's status, reasons of refusal included."""
        statuses = await asyncio.to_thread(self._replica.set_models, DesiredState.of(state))
        return [status.data() for status in statuses]

    async def status(self) -> list[dict[str, object]]:
        """What this replica serves, beside what it should."""
        return [status.data() for status in self._replica.slots.status()]

    async def flush(self) -> LogCounts:
        """Writes the prediction log's buffer to the spool; returns the counts so far."""
        return await asyncio.to_thread(self._replica.flush)


def _spare_the_collector() -> None:
    """What is there before the first request stays: the collector need not look at it again.

    It would, every few thousand predictions, for a fifth of their CPU time. It is done only now,
    for a full collection stops the process for up to a third of a second.
    """
    gc.collect()
    gc.freeze()


def _listen_on_own_address() -> None:
    """Binds Serve's server between deployments to the node's address, before it starts.

    By itself it binds every interface, and it unpickles what it is sent. No setting changes that.
    """
    import ray
    from ray.serve._private import replica

    bind, own = replica.add_port_to_grpc_server, ray.util.get_node_ip_address()

    def bind_own(server: object, address: str) -> int:
        return int(bind(server, address.replace("[::]", f"[{own}]" if ":" in own else own)))

    replica.add_port_to_grpc_server = bind_own


def deploy(
    build: BuildReplica,
    *,
    replicas: int = 2,
    num_cpus: float = 0.5,
    max_in_flight: int = 256,
    name: str = APP,
    route_prefix: str = "/",
) -> DeploymentHandle[Any]:
    """Runs the predictor application and waits until it is ready; deploying it again updates it.

    ``build`` makes a replica inside its process; it must be importable there.
    """
    deployment = serve.deployment(
        name=DEPLOYMENT,
        num_replicas=replicas,
        max_ongoing_requests=max_in_flight,
        max_queued_requests=max_in_flight,
        ray_actor_options={"num_cpus": num_cpus},
        health_check_period_s=1,
        graceful_shutdown_timeout_s=2,
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )(serve.ingress()(PredictorReplica))
    return serve.run(deployment.bind(build), name=name, route_prefix=route_prefix)


def quiet() -> None:
    """Keeps Serve's lines about what it is doing out of this process; its warnings stay."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)


def predictor_handle(name: str = APP) -> DeploymentHandle[Any]:
    """A handle to the running predictor."""
    return serve.get_deployment_handle(DEPLOYMENT, name)


def set_models(
    handle: DeploymentHandle[Any], desired: DesiredState, timeout_s: float = 60.0
) -> list[list[dict[str, object]]]:
    """Pushes a desired state to every replica; returns the status of each."""
    response = handle.broadcast("set_models", desired.data())
    return list(response.results(timeout_s=timeout_s))


def replica_statuses(
    handle: DeploymentHandle[Any], timeout_s: float = 10.0
) -> list[list[dict[str, object]]]:
    """What each replica serves."""
    return list(handle.broadcast("status").results(timeout_s=timeout_s))


def flush_predictions(handle: DeploymentHandle[Any], timeout_s: float = 30.0) -> list[LogCounts]:
    """Writes every replica's prediction log buffer to the spool; the writer then commits it."""
    return list(handle.broadcast("flush").results(timeout_s=timeout_s))


class RayExporter:
    """Exports through ``ray.util.metrics``, onto Ray's Prometheus endpoint."""

    def __init__(self) -> None:
        self._counters: dict[str, ray_metrics.Counter] = {}
        self._histograms: dict[str, ray_metrics.Histogram] = {}

    def count(self, name: str, amount: int, labels: Mapping[str, str]) -> None:
        """Adds to a counter."""
        if name not in self._counters:
            self._counters[name] = ray_metrics.Counter(name, tag_keys=tuple(labels))
        self._counters[name].inc(amount, dict(labels))

    def observe(self, name: str, values: Sequence[float], labels: Mapping[str, str]) -> None:
        """Adds values to a histogram of sub-millisecond buckets."""
        if name not in self._histograms:
            self._histograms[name] = ray_metrics.Histogram(
                name, boundaries=list(LATENCY_BUCKETS_MS), tag_keys=tuple(labels)
            )
        histogram, tags = self._histograms[name], dict(labels)
        for value in values:
            histogram.observe(value, tags)
