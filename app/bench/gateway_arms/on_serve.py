"""What the gateway's benchmark runs on Serve: a raw echo, and ours before the local upstream."""

from __future__ import annotations

from typing import Any

from genai_gateway.assembly import Parts, open_gateway
from genai_gateway.clock import SystemClock
from genai_gateway.config import read_config
from genai_gateway.http import GatewayApp
from genai_gateway.keys import Caller, Doorkeeper, FixedKeys, Limits
from genai_gateway.on_ray import RayLedger, RayMeters, find_ledger
from genai_gateway.records.metrics import BufferedMeters, MetricsRecorder
from serving.http import FastLane

KEY = "bench-key"
_BODY = b'{"echo":true}'
_HEAD = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]


class RawEcho:
    """The least that Serve can do for a request: the ceiling to compare with."""

    def __init__(self) -> None:
        FastLane.open(echo)

    def __serve_build_asgi_app__(self) -> object:
        """The application Serve mounts."""
        return echo


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body and answers with the same few bytes."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEAD})
    await send({"type": "http.response.body", "body": _BODY})


def config(upstream: str) -> dict[str, Any]:
    """One model behind a key, limits, a budget and pattern guardrails."""
    target = {"provider": "local", "model": "bench"}
    return {
        "providers": {"local": {"schema": "openai", "base_url": upstream, "private": True}},
        "models": {"m": {"targets": [target], "policy": "patterns"}},
        "prices": {"local": {"input_usd_per_million": 1, "output_usd_per_million": 2}},
        "projects": {"bench": {"usd_per_month": 1e6, "requests_per_minute": 10**9}},
        "policies": {
            "patterns": {"steps": [{"step": "secrets", "action": "refuse"}, {"step": "pii"}]}
        },
    }


def build(upstream: str, namespace: str, replica: str) -> GatewayApp:
    """Ours, with every feature on; Serve calls this in the replica's process."""
    clock = SystemClock()
    meters = BufferedMeters(RayMeters())
    limits = Limits(1e6, 10**9, 10**12)
    keys = FixedKeys({KEY: Caller("bench", "bench", limits=limits)})
    parts = Parts(
        replica=replica,
        doorkeeper=Doorkeeper(keys, clock),
        ledger=RayLedger(find_ledger(namespace)),
        recorders=(MetricsRecorder(meters),),
        clock=clock,
        every_second=(meters.flush,),
    )
    return open_gateway(read_config(config(upstream)), parts)
