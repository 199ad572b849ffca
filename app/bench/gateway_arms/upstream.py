"""A model server of fixed latency: ``python -m app.bench.gateway_arms.upstream PORT LATENCY_MS``.

It answers chat completions of the OpenAI schema: whole after the latency, streamed as a role, 64
words at 20 ms and the end. It reads no more of a request than it must.
"""

from __future__ import annotations

import asyncio
import sys

import orjson

WORDS = 64
PACE_S = 0.02
_HEAD = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "bench"}


def _whole() -> bytes:
    message = {"role": "assistant", "content": "word " * 20}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70}
    body = orjson.dumps({**_HEAD, "choices": [choice], "usage": usage})
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {**_HEAD, "object": "chat.completion.chunk"}
    return _chunk(b"data: " + orjson.dumps({**head, "choices": [choice]}) + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_WHOLE = _whole()
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_FIRST = _event({"role": "assistant", "content": ""})
_WORD = _event({"content": " word"})
_LAST = _event({}, "stop") + _chunk(b"data: [DONE]\n\n") + _chunk(b"")


class Upstream(asyncio.Protocol):
    """One connection."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._buffer = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answers every request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            mark = head.find(b"content-length:")
            length = int(head[mark + 15 :].split(b"\r\n")[0]) if mark >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._answer(b'"stream":true' in body or b'"stream": true' in body)

    def _answer(self, stream: bool) -> None:
        if stream:
            self._transport.write(_STREAM_HEAD + _FIRST)
            self._loop.call_later(self._latency_s + PACE_S, self._words, WORDS)
        elif self._latency_s:
            self._loop.call_later(self._latency_s, self._transport.write, _WHOLE)
        else:
            self._transport.write(_WHOLE)

    def _words(self, left: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(_WORD)
        if left > 1:
            self._loop.call_later(PACE_S, self._words, left - 1)
        else:
            self._transport.write(_LAST)


async def main(port: int, latency_ms: float) -> None:
    """Listens until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(latency_ms / 1_000), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
