"""The gateway's benchmark: what it adds to a request, beside a raw Serve echo and LiteLLM's proxy.

All arms ask one local model server of fixed latency, in the same run, with one C client. Ours has
key, limits, budget and pattern guardrails on. Streams are read by a client in Python that keeps
128 of them open at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from app.bench.gateway_arms.on_serve import KEY, RawEcho, build
from app.bench.gateway_arms.upstream import PACE_S, WORDS
from app.bench.serving import build_client
from features.errors import Unavailable

Json = dict[str, Any]
CONNECTIONS = (1, 8)
STREAMS = 128
NAMESPACE = "tondo-bench"
_HOST = "127.0.0.1"
_START_S = 120.0
_ROUNDS = 5
_TEXT = "Please tell me about the weather in Paris in spring, and what one should wear in April."
_BODY: Json = {
    "model": "m",
    "max_tokens": 100,
    "messages": [
        {"role": "system", "content": "You are a helpful assistant that answers briefly."},
        {"role": "user", "content": _TEXT},
    ],
}


def run(*, seconds: float = 10.0, litellm: Path | None = None) -> Json:
    """Measures every arm; ``litellm`` is the proxy's own executable, left out if there is none."""
    with tempfile.TemporaryDirectory(prefix="tondo-bench-") as scratch:
        client = build_client(Path(scratch))
        with ExitStack() as stack:
            port = stack.enter_context(model_server(0.0))
            ours = stack.enter_context(_serve(Path(scratch), port))
            where = {
                "direct": (port, "/chat/completions", ""),
                "echo": (ours, "/echo", ""),
                "ours": (ours, "/llm/v1/chat/completions", KEY),
            }
            if litellm is not None:
                proxy = stack.enter_context(_litellm(litellm, port))
                where["litellm"] = (proxy, "/v1/chat/completions", KEY)
            arms = _interleaved(client, where, seconds)
            streams = asyncio.run(_streams(ours, STREAMS))
            direct = asyncio.run(_streams(port, STREAMS, direct=True))
    return report(arms, streams, direct)


def _interleaved(
    client: Path, where: dict[str, tuple[int, str, str]], seconds: float
) -> dict[str, dict[int, Json]]:
    """Every arm in turn, several times over; of each the round with the median throughput counts.

    What else the machine does in the meantime then falls on all arms alike.
    """
    rounds = [
        {arm: _load(client, seconds / _ROUNDS, *place) for arm, place in where.items()}
        for _ in range(_ROUNDS)
    ]
    return {
        arm: {
            n: sorted((r[arm][n] for r in rounds), key=lambda m: float(m["requests_per_s"]))[
                _ROUNDS // 2
            ]
            for n in CONNECTIONS
        }
        for arm in where
    }


def report(arms: dict[str, dict[int, Json]], streams: Json, direct: Json) -> Json:
    """The benchmark's JSON from what each arm measured, per number of connections."""
    most = max(CONNECTIONS)
    values: Json = {
        f"{arm}_{connections}": measured
        for arm, by_connections in arms.items()
        for connections, measured in by_connections.items()
    }
    added_us = arms["ours"][1]["p50_us"] - arms["echo"][1]["p50_us"]
    values |= {
        "added_median_ms": round(added_us / 1_000, 3),
        "added_median_over_direct_ms": round(
            (arms["ours"][1]["p50_us"] - arms["direct"][1]["p50_us"]) / 1_000, 3
        ),
        "streams": streams["complete"],
        "inter_token_p99_ms": streams["added_p99_ms"],
        "streaming": streams,
        "streaming_direct": direct,
    }
    ratios: Json = {
        "throughput_vs_echo": _ratio(arms["ours"][most], arms["echo"][most]),
    }
    if "litellm" in arms:
        ratios["throughput_vs_litellm"] = _ratio(arms["ours"][most], arms["litellm"][most])
        ratios["p50_vs_litellm"] = round(
            arms["ours"][1]["p50_us"] / arms["litellm"][1]["p50_us"], 3
        )
    environment = {"machine": platform.machine(), "cpus": os.cpu_count()}
    return {
        "name": "gateway",
        "seed": 0,
        "environment": environment,
        "values": values,
        "ratios": ratios,
    }


@contextmanager
def model_server(latency_ms: float) -> Iterator[int]:
    """The local model server in a process of its own; gives its port."""
    port = _free_port()
    arguments = ["-m", "app.bench.gateway_arms.upstream", str(port), str(latency_ms)]
    with _process([sys.executable, *arguments], port, dict(os.environ)):
        yield port


@contextmanager
def _serve(scratch: Path, upstream: int) -> Iterator[int]:
    """A Ray of its own with the echo and our gateway; gives the port."""
    import ray
    from ray import serve

    from genai_gateway.on_ray import deploy, start_ledger
    from serving.on_ray import serve_environment

    first, port = _free_port(), _free_port()
    flags = serve_environment(
        str(scratch),
        metrics_port=_free_port(),
        stats_port=_free_port(),
        ports=(first, first + 200),
    )
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    os.environ.update(flags | {"PYTHONPATH": os.pathsep.join(filter(None, paths))})
    os.environ.pop("RAY_ADDRESS", None)
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": _HOST, "port": port})
        echo = serve.deployment(name="Echo", ray_actor_options={"num_cpus": 0.5})(
            serve.ingress()(RawEcho)
        )
        serve.run(echo.bind(), name="echo", route_prefix="/echo")
        start_ledger(scratch / "ledger.db", NAMESPACE)
        deploy(partial(build, f"http://{_HOST}:{upstream}", NAMESPACE))
        yield port
    finally:
        serve.shutdown()
        ray.shutdown()


@contextmanager
def _litellm(executable: Path, upstream: int) -> Iterator[int]:
    """LiteLLM's proxy from its own environment, with a key, before the same model server."""
    port = _free_port()
    config = {
        "model_list": [
            {
                "model_name": "m",
                "litellm_params": {
                    "model": "openai/bench",
                    "api_base": f"http://{_HOST}:{upstream}",
                    "api_key": "none",
                },
            }
        ],
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"telemetry": False},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(json.dumps(config))
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHON"))}
        environment = {**clean, "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        command = [str(executable), "--config", str(path), "--port", str(port), "--host", _HOST]
        with _process(command, port, environment):
            yield port


@contextmanager
def _process(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(process, port)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((_HOST, port)) == 0:
                return
        time.sleep(0.1)
    raise Unavailable("an arm of the benchmark did not start", "run its command by hand")


def _load(client: Path, seconds: float, port: int, path: str, key: str) -> dict[int, Json]:
    body = json.dumps(_BODY).encode()
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {_HOST}:{port}\r\n{authorization}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    requests = client.with_name("requests")
    requests.write_bytes(head.encode() + body)

    def measure(connections: int, duration: float) -> Json:
        numbers = [str(port), str(connections), str(duration)]
        command = [str(client), _HOST, *numbers, str(requests)]
        done = subprocess.run(command, check=True, capture_output=True)
        measured: Json = json.loads(done.stdout)
        return measured

    measure(max(CONNECTIONS), 0.3)
    return {connections: measure(connections, seconds) for connections in CONNECTIONS}


async def _streams(port: int, count: int, direct: bool = False) -> Json:
    """Reads streams side by side; what a word takes more than the server's pace is added."""
    path = "/chat/completions" if direct else "/llm/v1/chat/completions"
    body = json.dumps({**_BODY, "stream": True}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    done = await asyncio.gather(*(_stream(port, head + body, n / count) for n in range(count)))
    gaps = sorted(gap for times in done for gap in _gaps(times))
    first = sorted(times[0] for times in done if times)
    return {
        "asked": count,
        "complete": sum(len(times) == WORDS for times in done),
        "first_word_p50_ms": round(statistics.median(first) * 1_000, 2) if first else None,
        "added_p50_ms": round((statistics.median(gaps) - PACE_S) * 1_000, 2),
        "added_p99_ms": round((gaps[int(len(gaps) * 0.99)] - PACE_S) * 1_000, 2),
    }


async def _stream(port: int, request: bytes, spread: float) -> list[float]:
    """The times (s, from the request) at which words came; none for a stream that is not whole."""
    await asyncio.sleep(spread)
    reader, writer = await asyncio.open_connection(_HOST, port)
    start, times, whole = time.perf_counter(), [], False
    writer.write(request)
    try:
        while not whole:
            data = await asyncio.wait_for(reader.read(65_536), 30)
            now = time.perf_counter() - start
            times += [now] * data.count(b"word")
            whole = b"[DONE]" in data or not data
    finally:
        writer.close()
    return times


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


def _ratio(ours: Json, baseline: Json) -> float:
    return round(float(ours["requests_per_s"]) / float(baseline["requests_per_s"]), 3)
