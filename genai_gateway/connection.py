"""HTTP/1.1 to model servers: pooled connections, and no more than that. Only this file and
``addresses.py`` know of sockets.

One POST costs a third of what it does through a general client, and half of the gateway's time was
spent there. Redirects are not followed, proxies of the environment are not used, and addresses are
checked after the name is resolved, so that a name cannot be turned to a private address later.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import SplitResult, urlsplit

import httptools

from genai_gateway.addresses import resolve
from genai_gateway.errors import UpstreamFailed

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_CONNECT_S = 10.0
_IDLE_S = 30.0
_HIGH_WATER = 1024 * 1024

_Place = tuple[str, str, int]


class HttpUpstream:
    """Sends requests over pooled connections; ``private`` allows addresses of private networks."""

    def __init__(self, private: bool = False) -> None:
        self._private = private
        self._idle: dict[_Place, list[_Connection]] = {}
        self._split: dict[str, SplitResult] = {}
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> HttpResponse:
        """Sends a request and waits for the head of the response. Raises UpstreamFailed."""
        parts = self._split.get(url)
        if parts is None:
            parts = self._split[url] = urlsplit(url)
        secure = parts.scheme == "https"
        place = parts.scheme, parts.hostname or "", parts.port or (443 if secure else 80)
        connection = self._pooled(place) or await self._connect(place)
        try:
            connection.send(_request(parts, headers, len(body)) + body)
            await connection.head
        except BaseException:
            connection.abort()
            raise
        return HttpResponse(connection)

    async def close(self) -> None:
        """Closes every idle connection; those in use close when they are done."""
        self._closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle = {}

    def _pooled(self, place: _Place) -> _Connection | None:
        """The connection that was used last, if one is open."""
        idle = self._idle.get(place)
        while idle:
            connection = idle.pop()
            if connection.usable():
                return connection
            connection.abort()
        return None

    async def _connect(self, place: _Place) -> _Connection:
        scheme, host, port = place
        loop = asyncio.get_running_loop()
        context = self._context() if scheme == "https" else None
        name = host if context else None
        failure: Exception = OSError("it has no address")
        try:
            async with asyncio.timeout(_CONNECT_S):
                for address in await resolve(host, port, self._private):
                    try:
                        _, connection = await loop.create_connection(
                            lambda: _Connection(self._give_back, place),
                            address,
                            port,
                            ssl=context,
                            server_hostname=name,
                        )
                        return connection
                    except OSError as error:
                        failure = error
        except TimeoutError:
            raise UpstreamFailed(f"the upstream was not reached within {_CONNECT_S:g} s") from None
        reason = getattr(failure, "strerror", None) or type(failure).__name__
        raise UpstreamFailed(f"the upstream was not reached: {reason}")

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _give_back(self, connection: _Connection) -> None:
        if self._closed:
            connection.abort()
        else:
            self._idle.setdefault(connection.place, []).append(connection)


class HttpResponse:
    """A response whose head has arrived."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers

    async def read(self) -> bytes:
        """The whole body. Raises UpstreamFailed if it breaks off or is too long."""
        parts: list[bytes] = []
        size = 0
        async for part in self.chunks():
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                self.close()
                raise UpstreamFailed(f"the upstream's answer has more than {MAX_ANSWER_BYTES:,} B")
            parts.append(part)
        return b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises UpstreamFailed if it breaks off."""
        while (chunk := await self._connection.chunk()) is not None:
            yield chunk

    def close(self) -> None:
        """Hangs up, unless the body was read to its end."""
        self._connection.release()


class _Connection(asyncio.Protocol):
    """One connection with one request on its way at a time."""

    def __init__(self, give_back: Callable[[_Connection], None], place: _Place) -> None:
        self.place = place
        self._give_back = give_back
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._idle_since = self._loop.time()
        self._begin()

    def _begin(self) -> None:
        self.head: asyncio.Future[None] = self._loop.create_future()
        self.status = 0
        self.headers: dict[str, str] = {}
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._size = 0
        self._complete = False
        self._keep = False
        self._released = False
        self._failure: UpstreamFailed | None = None
        self._waiter: asyncio.Future[None] | None = None

    def send(self, request: bytes) -> None:
        """Begins an exchange."""
        self._begin()
        assert self._transport is not None
        self._transport.write(request)

    def usable(self) -> bool:
        """Whether another request may be sent."""
        transport = self._transport
        fresh = self._loop.time() - self._idle_since < _IDLE_S
        return transport is not None and not transport.is_closing() and fresh

    async def chunk(self) -> bytes | None:
        """The next piece of the body, None at its end. Raises UpstreamFailed if it breaks off."""
        while not self._body:
            if self._complete:
                self.release()
                return None
            if self._failure is not None:
                raise self._failure
            self._waiter = self._loop.create_future()
            await self._waiter
        data = b"".join(self._body) if len(self._body) > 1 else self._body[0]
        self._body, self._size = [], 0
        if self._transport is not None:
            self._transport.resume_reading()
        return data

    def release(self) -> None:
        """Gives the connection back if its exchange is over, else hangs up."""
        if self._released:
            return
        self._released = True
        if self._complete and self._keep and self._open():
            self._idle_since = self._loop.time()
            self._give_back(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Hangs up."""
        self._released = True
        if self.head.done() and not self.head.cancelled():
            self.head.exception()
        if self._transport is not None:
            self._transport.abort()

    def _open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Takes in what came; what nobody asked for ends the connection."""
        if self._complete or (self._released and self.head.done()):
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, ValueError):
            self._fail("the upstream's answer is not HTTP")
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Ends an answer that lasts until its connection ends; any other is broken off."""
        if self._complete:
            return
        bounded = "content-length" in self.headers or "transfer-encoding" in self.headers
        if self.head.done() and not bounded and error is None:
            self.on_message_complete()
        elif not self.head.done():
            self._fail("the upstream hung up")
        else:
            self._fail("the upstream's answer broke off: its end is missing")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is here; the one of an interim answer is not the one that counts."""
        self.status = self._parser.get_status_code()
        if self.status >= 200 and not self.head.done():
            self.head.set_result(None)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body.append(data)
        self._size += len(data)
        if self._size > _HIGH_WATER and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """The end of an answer; after an interim one the real one begins."""
        if self.status >= 200:
            self._complete = True
            self._keep = self._parser.should_keep_alive()
            self._wake()
        else:
            self.headers = {}

    def _fail(self, what: str) -> None:
        self._failure = UpstreamFailed(what)
        if not self.head.done():
            self.head.set_exception(self._failure)
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _request(parts: SplitResult, headers: Mapping[str, str], length: int) -> bytes:
    path = parts.path or "/"
    lines = [f"POST {path}?{parts.query} HTTP/1.1" if parts.query else f"POST {path} HTTP/1.1"]
    lines.append(f"host: {parts.netloc}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += ["accept-encoding: identity", "user-agent: tondo", f"content-length: {length}", "", ""]
    return "\r\n".join(lines).encode("latin-1")
