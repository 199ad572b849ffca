"""What tests of the gateway share: a client without sockets, and model servers on real ones."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from genai_gateway.assembly import Parts, open_gateway
from genai_gateway.clock import Clock, SystemClock
from genai_gateway.config import read_config
from genai_gateway.conversation import Json
from genai_gateway.http import GatewayApp
from genai_gateway.keys import Caller, Doorkeeper, FixedKeys
from genai_gateway.money.ledger import Ledger
from genai_gateway.money.sqlite import SqliteLedger
from genai_gateway.records.layer import Recorder
from genai_gateway.sse import EventParser

App = Callable[[Any, Any, Any], Awaitable[None]]
KEY = "test-key"
_T = TypeVar("_T")
_opened: list[GatewayApp] = []


@dataclass(slots=True)
class Got:
    """What a client got: status, headers and the parts of the body as they were sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.parts)

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)

    def events(self) -> list[tuple[str, Any]]:
        """The body as server-sent events: name and data, JSON where it is some."""
        return [(n.decode(), _data(d)) for n, d in EventParser().feed(self.body)]


async def ask(
    app: App,
    path: str,
    body: Any = None,
    *,
    headers: dict[str, str] | None = None,
    leave_after: int | None = None,
) -> Got:
    """One request to an ASGI application; a client that leaves does so after so many parts."""
    raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    given = {"authorization": f"Bearer {KEY}", **(headers or {})}
    scope = {
        "type": "http",
        "method": "GET" if body is None else "POST",
        "path": path,
        "query_string": b"",
        "headers": [(k.lower().encode(), v.encode()) for k, v in given.items()],
    }
    got, left, asked = Got(), asyncio.Event(), False

    async def receive() -> Json:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": raw, "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Json) -> None:
        if message["type"] == "http.response.start":
            got.status = message["status"]
            got.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            got.parts.append(message.get("body", b""))
            got.complete = not message.get("more_body", False)
        if leave_after is not None and len(got.parts) >= leave_after:
            left.set()
        await asyncio.sleep(0)

    await app(scope, receive, send)
    return got


@dataclass(slots=True)
class Received:
    """One request that a test server got."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


Answering = Callable[[Received, "Wire"], Awaitable[None]]


@dataclass(slots=True)
class Wire:
    """The server's end of one connection, for answers that are as wrong as a test wants."""

    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader

    async def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, kind: str = "text/event-stream", **more: str) -> None:
        """Sends the head of a chunked answer."""
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
        lines = [
            f"HTTP/1.1 {status} X",
            f"content-type: {kind}",
            "transfer-encoding: chunked",
            *lines,
        ]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def chunk(self, data: bytes) -> None:
        """Sends one chunk; an empty one ends the answer."""
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def whole(self, body: Any, status: int = 200, **more: str) -> None:
        """Sends a whole JSON answer."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        kind = more.pop("kind", "application/json")
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
        head = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(raw)}"]
        await self.send("\r\n".join([*head, *lines, "", ""]).encode() + raw)

    async def stream(self, events: Sequence[bytes], pause_s: float = 0.0) -> None:
        """Sends a whole stream, each event in a chunk of its own."""
        await self.head()
        for event in events:
            await self.chunk(event)
            if pause_s:
                await asyncio.sleep(pause_s)
        await self.chunk(b"")

    def reset(self) -> None:
        """Breaks the connection off without a farewell."""
        self.writer.transport.abort()

    async def client_left(self) -> None:
        """Returns when the client has hung up."""
        while await self.reader.read(65536):
            pass


@dataclass(slots=True)
class ModelServer:
    """A model server under a test's control: what it got, and where it listens."""

    url: str
    requests: list[Received] = field(default_factory=list)


@asynccontextmanager
async def model_server(
    answer: Answering, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ModelServer]:
    """A TCP server on the loopback interface that reads HTTP requests and lets ``answer`` reply."""
    tasks: set[asyncio.Task[None]] = set()
    server = ModelServer("")

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while (received := await _request(reader)) is not None:
                server.requests.append(received)
                await answer(received, Wire(writer, reader))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    listening = await asyncio.start_server(connection, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    server.url = f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().split("\r\n")
    pairs = [line.split(": ", 1) for line in lines if line]
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(first.split(" ")[1], headers, body)


def _data(data: bytes) -> Any:
    return data.decode() if data == b"[DONE]" else orjson.loads(data)


def chat_completion(text: str = "Hello", **more: Any) -> Json:
    """A whole answer of the OpenAI schema."""
    message = {"role": "assistant", "content": text, **more.pop("message", {})}
    finish = more.pop("finish", "stop")
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "served-model",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        **more,
    }


def chat_chunks(
    texts: Sequence[str], finish: str | None = "stop", done: bool = True
) -> list[bytes]:
    """A streamed answer of the OpenAI schema; without ``finish`` it is cut off."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000}
    head["model"] = "served-model"
    deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": t} for t in texts)]
    bodies: list[Json] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    if finish:
        last = {"index": 0, "delta": {}, "finish_reason": finish}
        usage = {"prompt_tokens": 7, "completion_tokens": len(texts)}
        usage["total_tokens"] = sum(usage.values())
        bodies += [{**head, "choices": [last]}, {**head, "choices": [], "usage": usage}]
    events = [b"data: " + orjson.dumps(body) + b"\n\n" for body in bodies]
    return [*events, b"data: [DONE]\n\n"] if finish and done else events


def message_events(texts: Sequence[str], stop: str | None = "end_turn") -> list[bytes]:
    """A streamed answer of the Anthropic schema; without ``stop`` it is cut off."""
    message: Json = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "served-claude",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 7, "output_tokens": 1},
    }
    block = {"type": "text", "text": ""}
    bodies: list[Json] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
    ]
    for text in texts:
        delta = {"type": "text_delta", "text": text}
        bodies.append({"type": "content_block_delta", "index": 0, "delta": delta})
    if stop:
        end = {"stop_reason": stop, "stop_sequence": None}
        bodies.append({"type": "content_block_stop", "index": 0})
        bodies.append(
            {"type": "message_delta", "delta": end, "usage": {"output_tokens": len(texts)}}
        )
        bodies.append({"type": "message_stop"})
    return [b"event: %s\ndata: %s\n\n" % (b["type"].encode(), orjson.dumps(b)) for b in bodies]


def open_test_gateway(
    config: Json,
    *,
    callers: dict[str, Caller] | None = None,
    recorders: Sequence[Recorder] = (),
    clock: Clock | None = None,
    ledger: Ledger | None = None,
) -> GatewayApp:
    """A whole gateway from configuration, with a ledger in memory; ``KEY`` opens it."""
    clock = clock or SystemClock()
    keys = FixedKeys(callers or {KEY: Caller("tester", "tests")})
    parts = Parts(
        replica="test",
        doorkeeper=Doorkeeper(keys, clock),
        ledger=ledger or SqliteLedger(clock),
        recorders=recorders,
        clock=clock,
    )
    app = open_gateway(read_config(config), parts)
    _opened.append(app)
    return app


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Runs a test's work to its end, and closes the gateways that it opened."""

    async def whole() -> _T:
        try:
            return await work
        finally:
            while _opened:
                await _opened.pop().close()

    return asyncio.run(whole())


def one_server(url: str, schema: str = "openai", **route: Any) -> Json:
    """A configuration with one model, ``m``, on one server of a schema."""
    provider = {"schema": schema, "base_url": url, "private": True}
    target = {"provider": "server", "model": "upstream-model"}
    return {"providers": {"server": provider}, "models": {"m": {"targets": [target], **route}}}


def chat(text: str = "Hi", **more: Any) -> Json:
    """A small request of the chat surface."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}
