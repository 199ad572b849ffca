"""The gateway's manners with upstreams: patience, discretion, hedging, and hanging up."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson
import pytest

from genai_gateway.testing import (
    KEY,
    Got,
    Received,
    Wire,
    ask,
    chat,
    chat_chunks,
    chat_completion,
    model_server,
    one_server,
    open_test_gateway,
    run,
)
from genai_gateway.testing_models import FAST, say_hello, two_servers, words_of


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "date"])
def test_retry_after_is_honoured(form: str) -> None:
    """The gateway waits as long as the upstream wishes before it asks again, and then succeeds."""
    times: list[float] = []

    async def behave(received: Received, wire: Wire) -> None:
        loop = asyncio.get_running_loop()
        times.append(loop.time())
        if len(times) > 1:
            await say_hello(received, wire)
            return
        wishes = {
            "seconds": {"retry_after": "1"},
            "milliseconds": {"retry_after_ms": "700"},
            "date": {"retry_after": formatdate(time.time() + 2, usegmt=True)},
        }
        await wire.whole({"error": {"message": "wait"}}, status=429, **wishes[form])

    async def work() -> Got:
        async with model_server(behave) as server:
            app = open_test_gateway(one_server(server.url, **FAST))
            return await ask(app, "/llm/v1/chat/completions", chat())

    got = run(work())
    assert got.status == 200
    assert times[1] - times[0] >= (0.7 if form == "milliseconds" else 0.9)


def test_a_long_retry_after_is_passed_on() -> None:
    """A wish longer than the gateway's patience is the client's to keep."""

    async def behave(_: Received, wire: Wire) -> None:
        await wire.whole({"error": {"message": "wait"}}, status=429, retry_after="30")

    async def work() -> tuple[Got, int]:
        async with model_server(behave) as server:
            app = open_test_gateway(one_server(server.url, **FAST))
            got = await ask(app, "/llm/v1/chat/completions", chat())
            return got, len(server.requests)

    got, asked = run(work())
    assert (got.status, got.headers["retry-after"], asked) == (429, "30", 1)
    assert got.json()["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize("status", [400, 422])
def test_a_request_that_is_wrong_is_asked_once(status: int) -> None:
    """A refusal of the request itself is not repeated, and keeps its status."""

    async def behave(_: Received, wire: Wire) -> None:
        await wire.whole({"error": {"message": "bad field"}}, status=status)

    async def work() -> tuple[Got, int]:
        async with model_server(behave) as bad, model_server(say_hello) as good:
            app = open_test_gateway(two_servers(bad.url, good.url))
            got = await ask(app, "/llm/v1/chat/completions", chat())
            return got, len(bad.requests) + len(good.requests)

    got, asked = run(work())
    assert (got.status, asked) == (status, 1)
    assert "bad field" in got.json()["error"]["message"]


def test_credentials_of_the_gateway_never_reach_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that quotes the gateway's secret in its error does not give it away."""
    monkeypatch.setenv("TEST_PROVIDER_SECRET", "sk-very-secret-value")

    async def behave(received: Received, wire: Wire) -> None:
        key = received.headers["authorization"].removeprefix("Bearer ")
        await wire.whole({"error": {"message": f"Incorrect API key: {key}"}}, status=401)

    async def work() -> Got:
        async with model_server(behave) as server:
            config = one_server(server.url, **FAST)
            config["providers"]["server"]["secret"] = "env:TEST_PROVIDER_SECRET"
            return await ask(open_test_gateway(config), "/llm/v1/chat/completions", chat())

    got = run(work())
    assert got.status == 502
    assert b"sk-very-secret-value" not in got.body
    assert "[secret]" in got.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("parts", [0, 1, 2])
def test_a_client_that_leaves_frees_the_upstream(stream: bool, parts: int) -> None:
    """When the client is gone the connection to the upstream is closed within a second."""
    if parts and not stream:
        pytest.skip("a whole answer has one part")
    left = asyncio.Event()

    async def behave(_: Received, wire: Wire) -> None:
        if stream:
            await wire.head()
            for event in chat_chunks(["a", "b", "c"], finish=None):
                await wire.chunk(event)
        await wire.client_left()
        left.set()

    async def work() -> float:
        async with model_server(behave) as server:
            app = open_test_gateway(one_server(server.url))
            if parts == 0:
                # The upstream has the request, then the client goes.
                task = asyncio.create_task(_leaving(app, stream, server))
            else:
                body = chat(stream=True)
                task = asyncio.create_task(
                    ask(app, "/llm/v1/chat/completions", body, leave_after=parts)
                )
            start = asyncio.get_running_loop().time()
            await asyncio.wait_for(left.wait(), 5)
            await task
            return asyncio.get_running_loop().time() - start

    assert run(work()) < 1.0


async def _leaving(app: Any, stream: bool, server: Any) -> None:
    raw, step = orjson.dumps(chat(stream=stream)), 0

    async def receive() -> dict[str, Any]:
        nonlocal step
        step += 1
        if step == 1:
            return {"type": "http.request", "body": raw, "more_body": False}
        while not server.requests:
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None: ...

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/llm/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {KEY}".encode())],
    }
    await app(scope, receive, send)


def test_hedging_hangs_up_on_the_slow_target() -> None:
    """A second target is asked when the first is slow; its answer counts, the first is let go."""
    left = asyncio.Event()

    async def slow(_: Received, wire: Wire) -> None:
        await wire.head()
        await wire.client_left()
        left.set()

    async def work() -> tuple[Got, float]:
        async with model_server(slow) as first, model_server(say_hello) as second:
            config = two_servers(first.url, second.url)
            config["models"]["m"] |= {"hedge_after_s": 0.1, "timeouts": {"first_token_s": 5}}
            app = open_test_gateway(config)
            start = asyncio.get_running_loop().time()
            got = await ask(app, "/llm/v1/chat/completions", chat(stream=True))
            await asyncio.wait_for(left.wait(), 5)
            return got, asyncio.get_running_loop().time() - start

    got, seconds = run(work())
    assert words_of(got) == "Hello"
    assert got.headers["x-tondo-model"] == "good/good-model"
    assert seconds < 2


def certified(folder: Path) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate of its own making in a folder."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    subprocess.run([*command, *files, *subject], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def test_a_server_that_cannot_prove_its_name_is_not_asked(tmp_path: Path) -> None:
    """A certificate that nobody vouches for ends the call before anything is sent."""
    context = certified(tmp_path)

    async def work() -> Got:
        async with model_server(say_hello, context) as server:
            app = open_test_gateway(one_server(server.url, **FAST))
            got = await ask(app, "/llm/v1/chat/completions", chat())
            assert server.requests == []
            return got

    got = run(work())
    assert got.status == 502
    assert "not reached" in got.json()["error"]["message"]


def test_a_server_that_proves_its_name_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with a certificate that this machine trusts."""
    context = certified(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))

    async def work() -> list[int]:
        async with model_server(say_hello, context) as server:
            app = open_test_gateway(one_server(server.url, **FAST))
            bodies = [chat(), chat(stream=True), chat()]
            got = [await ask(app, "/llm/v1/chat/completions", body) for body in bodies]
            return [each.status for each in got]

    assert run(work()) == [200, 200, 200]


def test_connections_are_used_again() -> None:
    """A hundred calls in a row take one connection; one that the server closed is not used."""
    writers: set[int] = set()

    async def behave(received: Received, wire: Wire) -> None:
        writers.add(id(wire.writer))
        close = {"connection": "close"} if len(writers) > 1 else {}
        await wire.whole(chat_completion("x" * 100_000), **close)

    async def work() -> list[int]:
        async with model_server(behave) as server:
            app = open_test_gateway(one_server(server.url))
            for _ in range(100):
                got = await ask(app, "/v1/chat/completions", chat())
                assert got.status == 200
            return [len(server.requests), len(writers)]

    assert run(work()) == [100, 1]
