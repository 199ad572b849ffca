"""Every way an upstream can fail, with a real server that fails so: no truncated success."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

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
    message_events,
    model_server,
    one_server,
    open_test_gateway,
    run,
)

FAST = {
    "timeouts": {"first_token_s": 0.4, "between_tokens_s": 0.4, "total_s": 3},
    "retries": {"rounds": 2, "backoff_s": 0.01},
}
Behaviour = Callable[[Received, Wire], Awaitable[None]]


async def reset_before_head(_: Received, wire: Wire) -> None:
    """Hangs up without a word."""
    wire.reset()


async def reset_after_head(_: Received, wire: Wire) -> None:
    """Hangs up after the head."""
    await wire.head(kind="application/json")
    wire.reset()


async def slow_first_token(_: Received, wire: Wire) -> None:
    """Sends a head and then nothing."""
    await wire.head()
    await wire.client_left()


async def silent(_: Received, wire: Wire) -> None:
    """Takes the request and never answers."""
    await wire.client_left()


async def not_json(_: Received, wire: Wire) -> None:
    """Answers with a page of HTML."""
    await wire.whole(b"<html>oops</html>", kind="text/html")


async def broken_json(_: Received, wire: Wire) -> None:
    """Answers with half a JSON object."""
    await wire.whole(b'{"choices": [')


async def wrong_shape(_: Received, wire: Wire) -> None:
    """Answers with JSON of another schema."""
    await wire.whole({"choices": [{"message": "text"}]})


async def error_inside(_: Received, wire: Wire) -> None:
    """Answers 200 with an error inside."""
    await wire.whole({"error": {"message": "I am overloaded", "type": "overloaded_error"}})


async def empty_answer(_: Received, wire: Wire) -> None:
    """Answers 200 without any choice."""
    await wire.whole(chat_completion() | {"choices": []})


async def server_error(_: Received, wire: Wire) -> None:
    """Answers 500."""
    await wire.whole({"error": {"message": "broken"}}, status=500)


async def unavailable(_: Received, wire: Wire) -> None:
    """Answers 503 without a body."""
    await wire.whole(b"", status=503)


async def too_many(_: Received, wire: Wire) -> None:
    """Answers 429 without a hint when to come back."""
    await wire.whole({"error": {"message": "slow down"}}, status=429)


async def redirect(_: Received, wire: Wire) -> None:
    """Sends the gateway to another address."""
    await wire.whole(b"", status=302, location="http://169.254.169.254/")


async def malformed_event(_: Received, wire: Wire) -> None:
    """Streams something that is no JSON."""
    await wire.stream([b"data: {oops\n\n"])


async def empty_stream(_: Received, wire: Wire) -> None:
    """Streams nothing at all."""
    await wire.stream([])


async def only_done(_: Received, wire: Wire) -> None:
    """Streams the end mark alone."""
    await wire.stream([b"data: [DONE]\n\n"])


async def error_event(_: Received, wire: Wire) -> None:
    """Streams an error before any token."""
    await wire.stream([b'data: {"error": {"message": "no", "type": "server_error"}}\n\n'])


BEFORE_ANY_TOKEN: list[Behaviour] = [
    reset_before_head,
    reset_after_head,
    silent,
    not_json,
    error_inside,
    server_error,
    unavailable,
    too_many,
    redirect,
]
WHOLE_ONLY = [broken_json, wrong_shape, empty_answer]
STREAM_ONLY = [slow_first_token, malformed_event, empty_stream, only_done, error_event]


async def _good(received: Received, wire: Wire) -> None:
    if received.json().get("stream"):
        await wire.stream(chat_chunks(["Hel", "lo"]))
    else:
        await wire.whole(chat_completion("Hello"))


def two_servers(bad: str, good: str) -> dict[str, Any]:
    """A model whose first target fails and whose second one answers."""
    config = one_server(bad, **FAST)
    config["providers"]["good"] = {"schema": "openai", "base_url": good, "private": True}
    target = {"provider": "good", "model": "good-model", "priority": 1}
    config["models"]["m"]["targets"].append(target)
    return config


def text_of(got: Got) -> str:
    """The words in a stream of the chat surface."""
    return "".join(
        choice["delta"].get("content") or ""
        for _, data in got.events()
        if isinstance(data, dict)
        for choice in data.get("choices", [])
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("behave", BEFORE_ANY_TOKEN + WHOLE_ONLY + STREAM_ONLY)
def test_another_target_answers(behave: Behaviour, stream: bool) -> None:
    """Whatever goes wrong before the first token, the client gets the next target's answer."""
    if behave in (WHOLE_ONLY if stream else STREAM_ONLY):
        pytest.skip("the behaviour is of the other kind of answer")

    async def work() -> Got:
        async with model_server(behave) as bad, model_server(_good) as good:
            app = open_test_gateway(two_servers(bad.url, good.url))
            return await ask(app, "/llm/v1/chat/completions", chat(stream=stream))

    got = run(work())
    assert got.status == 200
    assert got.headers["x-tondo-model"] == "good/good-model"
    said = text_of(got) if stream else got.json()["choices"][0]["message"]["content"]
    assert said == "Hello"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("behave", BEFORE_ANY_TOKEN + WHOLE_ONLY + STREAM_ONLY)
@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
def test_without_another_target_the_error_is_well_formed(
    behave: Behaviour, stream: bool, path: str
) -> None:
    """Where nobody else can answer, the client gets an error in its own surface's shape."""
    if behave in (WHOLE_ONLY if stream else STREAM_ONLY):
        pytest.skip("the behaviour is of the other kind of answer")
    body = chat(stream=stream, max_tokens=9)
    if path == "responses":
        body = {"model": "m", "input": "Hi", "stream": stream}

    async def work() -> Got:
        async with model_server(behave) as server:
            app = open_test_gateway(one_server(server.url, **FAST))
            headers = {"anthropic-version": "2023-06-01"}
            return await ask(app, f"/llm/v1/{path}", body, headers=headers)

    got = run(work())
    assert got.status in (429, 502, 504)
    error = got.json()["error"]
    assert "upstream" in error["message"]
    assert error["type"]
    assert ("type" in got.json()) == (path == "messages")


@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses", "completions"])
@pytest.mark.parametrize("how", ["reset", "end", "stall", "malformed", "error"])
def test_a_stream_that_breaks_ends_in_an_error(path: str, how: str) -> None:
    """After the first token a failure is an error event, never a truncated success."""
    head = chat_chunks(["Hel", "lo"], finish=None)

    async def behave(_: Received, wire: Wire) -> None:
        await wire.head()
        for event in head:
            await wire.chunk(event)
        if how == "reset":
            wire.reset()
        elif how == "end":
            await wire.chunk(b"")
        elif how == "stall":
            await wire.client_left()
        elif how == "malformed":
            await wire.chunk(b"data: }\n\n")
        else:
            await wire.chunk(b'data: {"error": {"message": "died"}}\n\n')

    body = chat(stream=True, max_tokens=9)
    if path == "responses":
        body = {"model": "m", "input": "Hi", "stream": True}
    if path == "completions":
        body = {"model": "m", "prompt": "Hi", "stream": True}

    async def work() -> Got:
        async with model_server(behave) as server:
            app = open_test_gateway(one_server(server.url, **FAST))
            headers = {"anthropic-version": "2023-06-01"}
            return await ask(app, f"/llm/v1/{path}", body, headers=headers)

    got = run(work())
    assert got.status == 200
    assert b"Hel" in got.body
    name, last = got.events()[-1]
    assert "error" in last
    assert name == {"messages": "error", "responses": "error"}.get(path, "")
    for mark in (b"[DONE]", b"message_stop", b"response.completed", b'"finish_reason":"stop"'):
        assert mark not in got.body


def test_an_anthropic_stream_that_breaks_ends_in_an_error() -> None:
    """The same for an upstream of Anthropic's schema."""

    async def behave(_: Received, wire: Wire) -> None:
        await wire.stream(message_events(["Hel"], stop=None))

    async def work() -> Got:
        async with model_server(behave) as server:
            app = open_test_gateway(one_server(server.url, "anthropic", **FAST))
            return await ask(app, "/llm/v1/chat/completions", chat(stream=True))

    got = run(work())
    assert "error" in got.events()[-1][1]
    assert b"[DONE]" not in got.body


def test_nobody_listens() -> None:
    """A refused connection and an unknown host are errors of the upstream, told as such."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://no-such-host.invalid"):

        async def work(url: str = url) -> Got:
            app = open_test_gateway(one_server(url, **FAST))
            return await ask(app, "/llm/v1/chat/completions", chat())

        got = run(work())
        assert got.status == 502
        assert got.json()["error"]["code"] == "upstream_error"


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "date"])
def test_retry_after_is_honoured(form: str) -> None:
    """The gateway waits as long as the upstream wishes before it asks again, and then succeeds."""
    times: list[float] = []

    async def behave(received: Received, wire: Wire) -> None:
        loop = asyncio.get_running_loop()
        times.append(loop.time())
        if len(times) > 1:
            await _good(received, wire)
            return
        wishes = {
            "seconds": {"retry_after": "1"},
            "milliseconds": {"retry_after_ms": "700"},
            "date": {"retry_after": formatdate(_now() + 2, usegmt=True)},
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
        async with model_server(behave) as bad, model_server(_good) as good:
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
    import orjson

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


def _now() -> float:
    import time

    return time.time()


def test_hedging_hangs_up_on_the_slow_target() -> None:
    """A second target is asked when the first is slow; its answer counts, the first is let go."""
    left = asyncio.Event()

    async def slow(_: Received, wire: Wire) -> None:
        await wire.head()
        await wire.client_left()
        left.set()

    async def work() -> tuple[Got, float]:
        async with model_server(slow) as first, model_server(_good) as second:
            config = two_servers(first.url, second.url)
            config["models"]["m"] |= {"hedge_after_s": 0.1, "timeouts": {"first_token_s": 5}}
            app = open_test_gateway(config)
            start = asyncio.get_running_loop().time()
            got = await ask(app, "/llm/v1/chat/completions", chat(stream=True))
            await asyncio.wait_for(left.wait(), 5)
            return got, asyncio.get_running_loop().time() - start

    got, seconds = run(work())
    assert text_of(got) == "Hello"
    assert got.headers["x-tondo-model"] == "good/good-model"
    assert seconds < 2
