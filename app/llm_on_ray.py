"""The GenAI Gateway on the cluster that is up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from app.compose import Platform
from app.errors import Unavailable
from app.lifecycle.cluster import NAMESPACE, Cluster, connect
from app.llm import LlmHome, build_gateway

if TYPE_CHECKING:
    from genai_gateway.money.ledger import Balance


def start_gateway(platform: Platform) -> str:
    """Deploys the gateway and its ledger; returns where it listens. Raises Unavailable."""
    cluster = _up(platform)
    connect(cluster)
    deploy_gateway(platform, cluster)
    return f"the gateway answers at {cluster.http}/llm/v1"


def deploy_gateway(platform: Platform, cluster: Cluster) -> None:
    """The gateway on a cluster that this process is connected to."""
    from genai_gateway.on_ray import deploy, start_ledger

    start_ledger(LlmHome.of(platform).ledger, NAMESPACE)
    deploy(partial(build_gateway, cluster.home))


def stop_gateway(platform: Platform) -> None:
    """Takes the gateway and its ledger off the cluster. Raises Unavailable."""
    from ray import serve

    from genai_gateway.on_ray import APP, stop_ledger

    connect(_up(platform))
    serve.delete(APP)
    with suppress(ValueError):
        stop_ledger(NAMESPACE)


def read_balances(platform: Platform) -> list[Balance]:
    """How every account stands: from the ledger's actor, or from its file if none runs."""
    from genai_gateway.clock import SystemClock
    from genai_gateway.money.sqlite import SqliteLedger
    from genai_gateway.on_ray import balances

    cluster = platform.cluster()
    if cluster is not None and cluster.alive():
        connect(cluster)
        with suppress(ValueError):
            return balances(NAMESPACE)
    path = LlmHome.of(platform).ledger
    if not path.exists():
        return []
    ledger = SqliteLedger(SystemClock(), path)
    try:
        return asyncio.run(ledger.balances())
    finally:
        ledger.close()


def _up(platform: Platform) -> Cluster:
    cluster = platform.cluster()
    if cluster is None or not cluster.alive():
        raise Unavailable("no cluster is up", "tondo up")
    return cluster
