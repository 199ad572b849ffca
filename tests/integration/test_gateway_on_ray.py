"""The gateway on Serve: over HTTP, with its ledger as an actor, through a killed replica."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from genai_gateway.assembly import Parts, open_gateway
from genai_gateway.clock import SystemClock
from genai_gateway.config import read_config
from genai_gateway.http import GatewayApp
from genai_gateway.keys import Caller, Doorkeeper, FixedKeys, Limits
from genai_gateway.testing import KEY, Received, Wire, chat, chat_chunks, model_server

NAMESPACE = "gateway-test"


def build(url: str, folder: str, replica: str) -> GatewayApp:
    """A gateway in the replica's process, which leaves its id in a folder."""
    from genai_gateway.on_ray import RayLedger, find_ledger

    (Path(folder) / str(os.getpid())).touch()

    clock = SystemClock()
    limited = Caller("limited", "p", limits=Limits(requests_per_minute=6))
    paying = Caller("paying", "p", limits=Limits(usd_per_month=1.0))
    config: Any = {
        "providers": {
            "server": {"schema": "openai", "base_url": url, "private": True},
            "echo": {"schema": "echo"},
        },
        "models": {
            "m": {"targets": [{"provider": "server", "model": "x"}]},
            "echo": {"targets": [{"provider": "echo", "model": "echo"}]},
        },
        "prices": {
            "echo": {"free": True},
            "server": {"input_usd_per_million": 1, "output_usd_per_million": 1},
        },
    }
    keys = FixedKeys({KEY: Caller("k", "p"), "limited": limited, "paying": paying})
    parts = Parts(replica, Doorkeeper(keys, clock), RayLedger(find_ledger(NAMESPACE)))
    return open_gateway(read_config(config), parts)


@contextlib.contextmanager
def slow_server() -> Iterator[str]:
    """A model server in a thread that streams a word every 50 ms, a hundred of them."""
    started, stop = threading.Event(), threading.Event()
    found: list[str] = []

    async def answer(_: Received, wire: Wire) -> None:
        await wire.stream(chat_chunks([f"w{n} " for n in range(100)]), pause_s=0.05)

    async def main() -> None:
        async with model_server(answer) as server:
            found.append(server.url)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert started.wait(10)
    try:
        yield found[0]
    finally:
        stop.set()
        thread.join(10)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for each replica's process."""
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def url(
    ray_session: None, processes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a gateway of two replicas, before a slow model server."""
    from ray import serve

    from genai_gateway.on_ray import APP, deploy, start_ledger, stop_ledger

    with slow_server() as upstream:
        start_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db", NAMESPACE)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        deploy(partial(build, upstream, str(processes)), replicas=2, num_cpus=0.1)
        yield f"http://127.0.0.1:{port}/llm/v1"
        serve.delete(APP)
        stop_ledger(NAMESPACE)


def post(url: str, body: Any, key: str = KEY) -> httpx.Response:
    """One request over HTTP."""
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{url}/chat/completions", json=body, headers=headers, timeout=30)


def test_requests_reach_the_gateway_through_serve(url: str) -> None:
    """Whole answers, streams and errors come through HAProxy as they are."""
    whole = post(url, chat("hello", model="echo"))
    assert whole.status_code == 200, whole.text
    assert whole.json()["choices"][0]["message"]["content"].endswith("You said: hello")
    stream = post(url, chat("hello", model="echo", stream=True))
    assert stream.text.endswith("data: [DONE]\n\n")
    assert stream.text.count("data: ") > 5
    assert post(url, chat(), "wrong").json()["error"]["code"] == "invalid_api_key"


def test_a_limit_holds_over_all_replicas(url: str) -> None:
    """Six requests a minute are six, though two replicas answer in turn."""
    if time.time() % 60 > 45:
        # Too near to the end of the minute: the next one would be counted too.
        wait_until(lambda: time.time() % 60 < 45, 20)
    codes = [post(url, chat(model="echo"), "limited").status_code for _ in range(20)]
    assert codes.count(200) == 6
    assert set(codes) == {200, 429}


def test_a_stream_comes_word_by_word(url: str) -> None:
    """The first words are here long before the last ones."""
    times: list[float] = []
    body = chat(stream=True)
    headers = {"authorization": f"Bearer {KEY}"}
    start = time.monotonic()
    with httpx.stream(
        "POST", f"{url}/chat/completions", json=body, headers=headers, timeout=30
    ) as got:
        for line in got.iter_lines():
            if '"content":"w' in line:
                times.append(time.monotonic() - start)
            if len(times) == 20:
                break
    assert times[0] < 1.5
    assert times[-1] - times[0] > 0.5


def test_a_replica_killed_mid_stream_ends_the_stream_and_settles(url: str, processes: Path) -> None:
    """The client sees that the stream broke off, and the ledger books the request by itself."""
    from genai_gateway import on_ray
    from genai_gateway.money.sqlite import LEASE

    killed, said = False, b""
    headers = {"authorization": "Bearer paying"}
    body = chat(stream=True, max_tokens=200)
    with (
        contextlib.suppress(httpx.HTTPError),
        httpx.stream(
            "POST", f"{url}/chat/completions", json=body, headers=headers, timeout=30
        ) as got,
    ):
        for piece in got.iter_bytes():
            said += piece
            if not killed and said.count(b'"content":"w') >= 5:
                killed = True
                for process in processes.iterdir():
                    os.kill(int(process.name), signal.SIGKILL)
    assert killed
    assert b"[DONE]" not in said
    assert b'"finish_reason":"stop"' not in said

    def settled() -> int:
        # A grant lets the ledger look who is gone; other replicas ask for one now and then.
        with contextlib.suppress(httpx.HTTPError):
            post(url, chat(model="echo"), "paying")
        found = on_ray.balances(NAMESPACE)
        return sum(b.settled for b in found if b.account == "key paying" and b.unit == "usd")

    wait_until(lambda: settled() > 0, LEASE / 1e6 + 30)
    assert settled() <= 10**9


def wait_until(condition: Any, seconds: float) -> None:
    """Returns when the condition holds; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        threading.Event().wait(0.5)
